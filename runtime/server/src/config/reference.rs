//! The configuration as commented TOML: what `quern config` prints, and the reference in
//! `docs/configuration.md`. It never reads one.

use std::fmt::{self, Write as _};

/// Columns of a comment.
const WIDTH: usize = 96;

/// One section of the file.
#[derive(Debug)]
pub(crate) struct Section {
    /// Its name between brackets.
    pub(crate) path: &'static str,
    pub(crate) about: &'static str,
    pub(crate) options: Vec<OptionText>,
}

/// One option, in text.
#[derive(Debug)]
pub(crate) struct OptionText {
    pub(crate) key: &'static str,
    pub(crate) meaning: &'static str,
    /// In TOML; none: it is not set.
    pub(crate) default: Option<String>,
    pub(crate) value: Option<String>,
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, about, options } = self;
        comment(f, about)?;
        writeln!(f, "[{path}]")?;
        for OptionText { key, meaning, default, value } in options {
            let end = if meaning.ends_with('.') { "" } else { "." };
            let default = default.as_deref().unwrap_or("not set");
            comment(f, &format!("{meaning}{end} Default: {default}"))?;
            match value {
                Some(value) => writeln!(f, "{key} = {value}")?,
                None => writeln!(f, "# {key} =")?,
            }
        }
        Ok(())
    }
}

/// The sections as one file.
pub(crate) fn text(sections: &[Section]) -> String {
    let mut text = String::new();
    for section in sections {
        let gap = if text.is_empty() { "" } else { "\n" };
        write!(text, "{gap}{section}").expect("a string takes everything");
    }
    text
}

/// Writes a text as comments of a readable width.
fn comment(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    let mut columns = 0;
    for word in text.split_whitespace() {
        let width = word.chars().count();
        if columns > 0 && columns + 1 + width > WIDTH {
            writeln!(f)?;
            columns = 0;
        }
        write!(f, "{}{word}", if columns == 0 { "# " } else { " " })?;
        columns += if columns == 0 { 2 } else { 1 } + width;
    }
    writeln!(f)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_stand_below_what_they_mean() {
        let option = |key, value: Option<&str>| OptionText {
            key,
            meaning: "Something",
            default: value.map(str::to_owned),
            value: value.map(str::to_owned),
        };
        let options = vec![option("a", Some("1")), option("b", None)];
        let section = Section { path: "s", about: "About.", options };
        let expected = "# About.\n[s]\n# Something. Default: 1\na = 1\n\
                        # Something. Default: not set\n# b =\n";
        assert_eq!(text(&[section]), expected);
    }

    #[test]
    fn comments_are_wrapped() {
        const ABOUT: &str = "word word word word word word word word word word word word word word \
             word word word word word word word word word word word word word word word word word";
        let text = Section { path: "s", about: ABOUT, options: vec![] }.to_string();
        assert_eq!(text.matches("word").count(), 31);
        for line in text.lines().filter(|line| line.starts_with('#')) {
            assert!(line.len() <= WIDTH && line.starts_with("# word"), "{line}");
        }
    }
}
