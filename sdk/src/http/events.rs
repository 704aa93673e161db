//! Server-sent events: `text/event-stream` as the WHATWG's HTML standard has it, section 9.2.5. An
//! event that a browser would read otherwise can't be made.

use std::{fmt::Write as _, io::Write, time::Duration};

use serde::Serialize;

use crate::Error;

/// One event: its data, and what else a receiver is told about it.
///
/// ```
/// # use std::time::Duration;
/// # use quern_sdk::{Error, Event};
/// # fn event() -> Result<Event, Error> {
/// Event::json(&["a", "b"])?.with_name("letters")?.with_id("7")
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    name: Option<String>,
    id: Option<String>,
    retry: Option<Duration>,
    data: String,
}

impl Event {
    /// An event with this text, which may have several lines. Receivers see each end of a line,
    /// however it is written, as `\n`.
    pub fn new(data: impl Into<String>) -> Self {
        Self { name: None, id: None, retry: None, data: data.into() }
    }

    /// An event with a value as JSON, on one line. Fails if its `Serialize` does.
    pub fn json(value: &impl Serialize) -> Result<Self, Error> {
        Ok(Self::new(serde_json::to_string(value)?))
    }

    /// The same of another type than `message`: browsers hand it to listeners of that name. Fails
    /// if the name has more than one line.
    pub fn with_name(mut self, name: impl Into<String>) -> Result<Self, Error> {
        self.name = Some(on_one_line("name", name.into())?);
        Ok(self)
    }

    /// The same with an id, which a receiver that lost the connection names in the header
    /// `last-event-id` of its next request. Fails if the id has more than one line, or a NUL, which
    /// receivers ignore it for.
    pub fn with_id(mut self, id: impl Into<String>) -> Result<Self, Error> {
        let id = on_one_line("id", id.into())?;
        if id.contains('\0') {
            return Err(Error::internal("the id of an event can't have a NUL"));
        }
        self.id = Some(id);
        Ok(self)
    }

    /// The same, telling receivers to wait so long before they connect again. Whole milliseconds
    /// count.
    #[must_use]
    pub fn with_retry(mut self, after: Duration) -> Self {
        self.retry = Some(after);
        self
    }

    /// The event as it is sent.
    fn encode(&self) -> String {
        let mut text = String::with_capacity(self.data.len() + 64);
        let mut field = |name: &str, value: &str| {
            push_lines(&mut text, name, value);
        };
        if let Some(name) = &self.name {
            field("event", name);
        }
        if let Some(id) = &self.id {
            field("id", id);
        }
        if let Some(after) = self.retry {
            field("retry", &after.as_millis().to_string());
        }
        field("data", &self.data);
        text.push('\n');
        text
    }
}

/// The writing end of a response's events; [`Response::events`](crate::Response::events) hands it
/// out.
///
/// Sending waits while the client does not take what was sent before: a function makes no more than
/// is read, and its memory need not hold what is not.
pub struct Events<'body> {
    body: &'body mut dyn Write,
}

impl<'body> Events<'body> {
    pub(crate) fn new(body: &'body mut dyn Write) -> Self {
        Self { body }
    }

    /// Sends an event at once. Fails if the client is gone.
    pub fn send(&mut self, event: &Event) -> Result<(), Error> {
        Ok(self.body.write_all(event.encode().as_bytes())?)
    }

    /// Sends a comment, which receivers ignore: an empty one, now and then, keeps a connection
    /// alive on which nothing happens. Fails if the client is gone.
    pub fn comment(&mut self, text: &str) -> Result<(), Error> {
        let mut comment = String::with_capacity(text.len() + 8);
        push_lines(&mut comment, "", text);
        comment.push('\n');
        Ok(self.body.write_all(comment.as_bytes())?)
    }
}

fn on_one_line(what: &str, text: String) -> Result<String, Error> {
    match text.contains(['\r', '\n']) {
        true => Err(Error::internal(format!("the {what} of an event must be on one line"))),
        false => Ok(text),
    }
}

/// Adds a field for each line of a value. Lines end where receivers end them: at CR, LF, and both.
fn push_lines(text: &mut String, field: &str, value: &str) {
    let mut rest = Some(value);
    while let Some(lines) = rest {
        let end = lines.find(['\r', '\n']);
        let line = &lines[..end.unwrap_or(lines.len())];
        writeln!(text, "{field}: {line}").expect("a string takes everything");
        rest = end.map(|end| {
            let after = &lines[end..];
            after.strip_prefix("\r\n").unwrap_or(&after[1..])
        });
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn events_are_sent_as_the_standard_has_them() -> Result<(), Error> {
        let cases = [
            (Event::new("hello"), "data: hello\n\n"),
            (Event::new(""), "data: \n\n"),
            (Event::new(" a: b"), "data:  a: b\n\n"),
            (Event::new("a\nb\r\nc\rd\n"), "data: a\ndata: b\ndata: c\ndata: d\ndata: \n\n"),
            (Event::new("\r\r\n\n"), "data: \ndata: \ndata: \ndata: \n\n"),
            (Event::new("a\n\nevent: b"), "data: a\ndata: \ndata: event: b\n\n"),
            (Event::json(&["a\nb"])?, "data: [\"a\\nb\"]\n\n"),
            (Event::new("ä").with_name("é")?, "event: é\ndata: ä\n\n"),
            (
                Event::new("x")
                    .with_retry(Duration::from_micros(1_500_999))
                    .with_id("7")?
                    .with_name("end")?,
                "event: end\nid: 7\nretry: 1500\ndata: x\n\n",
            ),
            (Event::new("x").with_id("")?, "id: \ndata: x\n\n"),
        ];
        for (event, expected) in cases {
            let mut sent = Vec::new();
            Events::new(&mut sent).send(&event)?;
            assert_eq!(String::from_utf8(sent)?, expected);
        }
        Ok(())
    }

    #[test]
    fn what_would_end_a_field_early_is_refused() {
        for text in ["a\nb", "a\rb", "\n", "a\r\n"] {
            assert!(Event::new("").with_name(text).is_err(), "{text:?}");
            assert!(Event::new("").with_id(text).is_err(), "{text:?}");
        }
        assert!(Event::new("").with_id("a\0").is_err());
        assert!(Event::new("").with_name("a\0").is_ok());
    }

    #[test]
    fn comments_are_no_events() -> Result<(), Error> {
        for (comment, expected) in [("", ": \n\n"), ("a\n\ndata: b", ": a\n: \n: data: b\n\n")] {
            let mut sent = Vec::new();
            Events::new(&mut sent).comment(comment)?;
            assert_eq!(String::from_utf8(sent)?, expected);
        }
        Ok(())
    }

    #[test]
    fn a_client_that_is_gone_is_an_error() {
        struct Gone;

        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        assert!(Events::new(&mut Gone).send(&Event::new("x")).is_err());
        assert!(Events::new(&mut Gone).comment("").is_err());
    }
}
