//! The time that a caller allows, from the header `grpc-timeout`
//! (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).

use std::time::Duration;

use http::HeaderMap;

/// The header is not what the protocol says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("grpc-timeout {value:?} is not 1 to 8 digits and one of H, M, S, m, u and n")]
pub(crate) struct TimeoutError {
    value: String,
}

/// The time that a caller allows, if it says.
pub(super) fn of(headers: &HeaderMap) -> Result<Option<Duration>, TimeoutError> {
    let Some(value) = headers.get("grpc-timeout") else { return Ok(None) };
    let wrong = || {
        let value = String::from_utf8_lossy(value.as_bytes()).chars().take(20).collect();
        TimeoutError { value }
    };
    let (unit, digits) = value.as_bytes().split_last().ok_or_else(wrong)?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return Err(wrong());
    }
    let count = digits.iter().fold(0, |count, digit| count * 10 + u64::from(digit - b'0'));
    Ok(Some(match unit {
        b'H' => Duration::from_secs(count * 3_600),
        b'M' => Duration::from_secs(count * 60),
        b'S' => Duration::from_secs(count),
        b'm' => Duration::from_millis(count),
        b'u' => Duration::from_micros(count),
        b'n' => Duration::from_nanos(count),
        _ => return Err(wrong()),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit_of_one_letter() {
        let parse = |text: &str| {
            let value = text.try_into().expect("a header's value");
            of(&HeaderMap::from_iter([(http::HeaderName::from_static("grpc-timeout"), value)]))
        };
        assert_eq!(of(&HeaderMap::new()), Ok(None));
        for (text, seconds) in [
            ("1H", 3_600.0),
            ("2M", 120.0),
            ("3S", 3.0),
            ("40m", 0.04),
            ("00000050u", 0.000_05),
            ("99999999n", 0.099_999_999),
            ("0n", 0.0),
        ] {
            assert_eq!(parse(text), Ok(Some(Duration::from_secs_f64(seconds))), "{text}");
        }
        for text in ["", "S", "1", "1s", "-1S", "1.5S", "123456789S", "1 S", "1SS"] {
            let message = format!(
                "grpc-timeout {text:?} is not 1 to 8 digits and one of H, M, S, m, u and n"
            );
            assert_eq!(parse(text).expect_err(text).to_string(), message);
        }
    }
}
