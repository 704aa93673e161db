//! Holds source files against the rules of form that no linter knows.

use crate::{assert_none, files};

/// Longest source file, without its tests.
const MOST_LINES: usize = 500;

#[test]
fn every_source_file_says_first_what_it_is() {
    let silent: Vec<_> = files("rs")
        .into_iter()
        .filter(|(_, text)| !text.starts_with("//! "))
        .map(|(path, _)| path.display().to_string())
        .collect();
    assert_none("does not begin with `//! ` and what it does", &silent);
}

#[test]
fn no_source_file_is_too_long() {
    let long: Vec<_> = files("rs")
        .into_iter()
        .filter(|(_, text)| !is_generated(text))
        .map(|(path, text)| (path, lines_without_tests(&text)))
        .filter(|(_, lines)| *lines > MOST_LINES)
        .map(|(path, lines)| format!("{}: {lines} lines", path.display()))
        .collect();
    assert_none("more lines than fit one purpose, tests aside", &long);
}

#[test]
fn the_tests_of_a_file_do_not_count() {
    let cases = [
        ("a\nb\n", 2),
        ("a\n#[cfg(test)]\nmod tests {\n}\n", 1),
        ("a\n#[cfg(test)]\nmod properties;\nb\n", 4),
    ];
    for (text, expected) in cases {
        assert_eq!(lines_without_tests(text), expected, "{text:?}");
    }
}

/// Whether a file says, below what it is, that nobody writes it.
fn is_generated(text: &str) -> bool {
    text.lines().nth(1) == Some("// @generated")
}

fn lines_without_tests(text: &str) -> usize {
    let source = text.split("\n#[cfg(test)]\nmod tests {\n").next().unwrap_or(text);
    source.lines().count()
}
