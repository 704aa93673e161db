//! How long an answer asks to wait before another try. Never decides how long is waited.

use std::time::{Duration, SystemTime};

use http::{
    HeaderMap, HeaderName,
    header::{DATE, RETRY_AFTER},
};

/// What the header `Retry-After` asks for (RFC 9110, section 10.2.3): seconds, or a date. That is counted
/// from the answer's own `Date`, if it has one: the clocks of two machines differ.
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name: HeaderName| Some(headers.get(name)?.to_str().ok()?.trim());
    let asked = text(RETRY_AFTER)?;
    if let Ok(seconds) = asked.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = |text: &str| httpdate::parse_http_date(text).ok();
    let from = text(DATE).and_then(date).unwrap_or(now);
    // One that has passed asks for nothing.
    Some(date(asked)?.duration_since(from).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn seconds_and_dates_say_how_long() {
        // Sun, 06 Nov 1994 08:49:37 GMT, of the RFC.
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (asked, date, seconds) in [
            (None, None, None),
            (Some("7"), None, Some(7)),
            (Some(" 7 "), Some("Sun, 06 Nov 1994 08:49:37 GMT"), Some(7)),
            (Some("Sun, 06 Nov 1994 08:50:37 GMT"), None, Some(60)),
            (Some("Sunday, 06-Nov-94 08:50:37 GMT"), None, Some(60)),
            (Some("Sun Nov  6 08:50:37 1994"), None, Some(60)),
            (Some("Sun, 06 Nov 1994 08:48:37 GMT"), None, Some(0)),
            (
                Some("Fri, 31 Dec 1999 23:59:59 GMT"),
                Some("Fri, 31 Dec 1999 23:59:29 GMT"),
                Some(30),
            ),
            (Some("Sun, 06 Nov 1994 08:50:37 GMT"), Some("now"), Some(60)),
            (Some("-1"), None, None),
            (Some("1.5"), None, None),
            (Some("99999999999999999999"), None, None),
            (Some("tomorrow"), None, None),
            (Some(""), None, None),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in [(RETRY_AFTER, asked), (DATE, date)] {
                if let Some(value) = value {
                    headers.insert(name, value.parse().expect("a value"));
                }
            }
            let expected = seconds.map(Duration::from_secs);
            assert_eq!(retry_after(&headers, now), expected, "{asked:?} at {date:?}");
        }
    }
}
