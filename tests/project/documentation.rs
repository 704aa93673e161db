//! Follows the links between the pages of the documentation. Never leaves the repository: links
//! to the web aren't fetched.

use std::{collections::BTreeSet, path::Path};

use crate::{assert_none, files, root};

#[test]
fn links_between_pages_lead_somewhere() {
    let mut broken = Vec::new();
    for (page, text) in files("md") {
        for link in links(&text) {
            if let Some(problem) = problem(&page, &text, &link) {
                broken.push(format!("{}: ({link}) {problem}", page.display()));
            }
        }
    }
    assert_none("broken links", &broken);
}

#[test]
fn links_are_found_outside_of_code_only() {
    let text = "see [a](docs/a.md) and ![b](b.png \"title\"), not `[c](c.md)`\n\
                ```sh\n[d](d.md)\n```\n[e]: e.md#part\n[f](https://example.com/f)";
    let found: Vec<_> = links(text).into_iter().collect();
    assert_eq!(found, ["docs/a.md", "b.png", "e.md#part", "https://example.com/f"]);
}

#[test]
fn headings_become_anchors_as_on_the_web() {
    let found = anchors("# A `code` word\n## What, and why?\n## What, and why?\n```\n# no\n```");
    assert_eq!(Vec::from_iter(found), ["a-code-word", "what-and-why", "what-and-why-1"]);
}

/// What is wrong with a link, if anything is.
fn problem(page: &Path, text: &str, link: &str) -> Option<String> {
    if link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = link.split_once('#').map_or((link, None), |(p, a)| (p, Some(a)));
    let target = match path {
        "" => page.to_path_buf(),
        _ => page.parent().unwrap_or(Path::new("")).join(path),
    };
    if !root().join(&target).exists() {
        return Some(format!("{} does not exist", target.display()));
    }
    let anchor = anchor.filter(|_| target.extension().is_some_and(|found| found == "md"))?;
    let there = match path {
        "" => anchors(text),
        _ => anchors(&std::fs::read_to_string(root().join(&target)).expect("text")),
    };
    (!there.contains(anchor)).then(|| format!("{} has no heading #{anchor}", target.display()))
}

/// The targets of a page's links, in order.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in prose(text) {
        let plain: String = line.split('`').step_by(2).collect();
        let definition = plain.strip_prefix('[').and_then(|rest| rest.split_once("]: "));
        let targets = match definition {
            Some((_, target)) => vec![target],
            None => plain.split("](").skip(1).collect(),
        };
        for target in targets {
            found.extend(target.split([')', ' ']).next().map(str::to_owned));
        }
    }
    found
}

/// The anchors of a page's headings, as GitHub makes them.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in prose(text).filter(|line| line.starts_with('#')) {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let anchor: String = title
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect();
        let mut numbered = anchor.clone();
        let mut count = 0;
        while !found.insert(numbered.clone()) {
            count += 1;
            numbered = format!("{anchor}-{count}");
        }
    }
    found
}

/// The lines of a page that are not in a block of code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut code = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        !code && !fence
    })
}

#[test]
fn promises_are_held_by_tests_that_exist() {
    let page = std::fs::read_to_string(root().join("docs/security.md")).expect("text");
    let sources: Vec<_> = files("rs");
    let exists = |name: &str| {
        let definition = format!("fn {name}()");
        sources.iter().any(|(_, text)| text.contains(&definition))
    };
    // Names of tests are the words in code with at least three underscores.
    let named = page.split('`').skip(1).step_by(2).filter(|word| word.matches('_').count() > 2);
    let missing: Vec<_> = named
        .filter(|name| !exists(name))
        .map(|name| format!("docs/security.md: {name}"))
        .collect();
    assert_none("tests that don't exist", &missing);
}
