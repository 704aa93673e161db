//! Content encodings: what a request's body has, what a client takes, and the work in both
//! directions. Never makes more of a body than it may have.

use std::{
    fmt,
    io::{Read, Write},
};

use flate2::{
    Compression, Decompress, FlushDecompress, Status,
    bufread::MultiGzDecoder,
    write::{GzEncoder, ZlibEncoder},
};
use http::{
    HeaderMap, HeaderValue,
    header::{ACCEPT_ENCODING, CONTENT_ENCODING},
};

use crate::{
    body::ReadError,
    collect::{Collected, Growing},
};

/// What is decompressed at a time.
const CHUNK: usize = 64 << 10;
/// A fifth of the time of the usual level, and not much larger.
const LEVEL: Compression = Compression::fast();

/// A content encoding of RFC 9110.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    /// RFC 1952.
    Gzip,
    /// RFC 1950, the zlib format.
    Deflate,
}

/// Why a body can't be decompressed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CodingError {
    /// Another encoding, or several.
    #[error(
        "Content-Encoding {encoding:?} is not supported: use gzip or deflate, or send the body as \
         it is"
    )]
    Unknown {
        /// The encoding.
        encoding: String,
    },
    /// Any encoding, where no body needs one.
    #[error("Content-Encoding {encoding:?} is for inference alone: send the body as it is")]
    NotHere {
        /// The encoding.
        encoding: String,
    },
    /// It is not what it says.
    #[error("body is not {coding}: {reason}")]
    Broken {
        /// What it says.
        coding: Coding,
        /// What is wrong with it.
        reason: String,
    },
    /// It is longer than allowed once it is decompressed, or there is no room for it.
    #[error("decompressed: {0}")]
    Read(#[from] ReadError),
}

impl Coding {
    /// The encoding of a request's body.
    pub(crate) fn of_body(headers: &HeaderMap) -> Result<Option<Self>, CodingError> {
        let mut values = headers.get_all(CONTENT_ENCODING).iter();
        let (first, more) = (values.next(), values.next());
        let Some(value) = first else { return Ok(None) };
        let text = String::from_utf8_lossy(value.as_bytes());
        let known = match text.trim().to_ascii_lowercase().as_str() {
            "identity" | "" => Some(None),
            "gzip" | "x-gzip" => Some(Some(Self::Gzip)),
            "deflate" => Some(Some(Self::Deflate)),
            _ => None,
        };
        known.filter(|_| more.is_none()).ok_or_else(|| {
            let encoding = match more {
                Some(more) => format!("{text}, {}", String::from_utf8_lossy(more.as_bytes())),
                None => text.into_owned(),
            };
            CodingError::Unknown { encoding: encoding.chars().take(80).collect() }
        })
    }

    /// Refuses a body that has an encoding.
    pub(crate) fn refuse(headers: &HeaderMap) -> Result<(), CodingError> {
        let encoding = match Self::of_body(headers) {
            Ok(None) => return Ok(()),
            Ok(Some(coding)) => coding.to_string(),
            Err(CodingError::Unknown { encoding }) => encoding,
            Err(error) => return Err(error),
        };
        Err(CodingError::NotHere { encoding })
    }

    /// The encoding that a client likes best of those that there are; none if it takes neither, or
    /// would rather have what is not compressed.
    pub(crate) fn accepted(headers: &HeaderMap) -> Option<Self> {
        let values = headers.get_all(ACCEPT_ENCODING).iter();
        let texts = values.filter_map(|value| value.to_str().ok());
        let mut weights = [None; 2];
        let (mut any, mut identity) = (0.0, 0.0);
        for choice in texts.flat_map(|text| text.split(',')) {
            let (name, parameters) = choice.split_once(';').unwrap_or((choice, ""));
            let weight = match parameters.trim().split_once('=') {
                Some(("q" | "Q", weight)) => weight.parse().ok(),
                _ => Some(1.0),
            };
            let weight = weight.filter(|weight| (0.0..=1.0).contains(weight)).unwrap_or(0.0f32);
            match name.trim().to_ascii_lowercase().as_str() {
                "gzip" | "x-gzip" => weights[0] = Some(weight),
                "deflate" => weights[1] = Some(weight),
                "identity" => identity = weight,
                "*" => any = weight,
                _ => {}
            }
        }
        let [gzip, deflate] = weights.map(|weight| weight.unwrap_or(any));
        match (gzip, deflate) {
            (gzip, deflate) if gzip.max(deflate) < identity => None,
            (gzip, deflate) if gzip > 0.0 && gzip >= deflate => Some(Self::Gzip),
            (_, deflate) if deflate > 0.0 => Some(Self::Deflate),
            _ => None,
        }
    }

    /// The value of `Content-Encoding`.
    pub(crate) fn header(self) -> HeaderValue {
        HeaderValue::from_static(self.as_str())
    }

    /// Decompresses a body into `out`.
    pub(crate) fn decompress(
        self,
        body: &[u8],
        mut out: Growing,
    ) -> Result<Collected, CodingError> {
        match self {
            Self::Gzip => self.gunzip(body, &mut out)?,
            Self::Deflate => self.inflate(body, &mut out)?,
        }
        Ok(out.finish())
    }

    fn gunzip(self, body: &[u8], out: &mut Growing) -> Result<(), CodingError> {
        let mut decoder = MultiGzDecoder::new(body);
        let mut chunk = vec![0; CHUNK];
        loop {
            match decoder.read(&mut chunk) {
                Ok(0) => return Ok(()),
                Ok(length) => out.push(&chunk[..length])?,
                Err(error) => return Err(self.broken(error)),
            }
        }
    }

    /// By hand, since the crate's reader takes a stream that breaks off for one that ends.
    fn inflate(self, mut body: &[u8], out: &mut Growing) -> Result<(), CodingError> {
        let mut decoder = Decompress::new(true);
        let mut chunk = vec![0; CHUNK];
        loop {
            let (taken, made) = (decoder.total_in(), decoder.total_out());
            let status = decoder.decompress(body, &mut chunk, FlushDecompress::None);
            let status = status.map_err(|error| self.broken(error))?;
            let step = |now: u64, before: u64| usize::try_from(now - before).unwrap_or(usize::MAX);
            let (taken, made) = (step(decoder.total_in(), taken), step(decoder.total_out(), made));
            out.push(&chunk[..made])?;
            body = &body[taken..];
            match status {
                Status::StreamEnd if body.is_empty() => return Ok(()),
                Status::StreamEnd => return Err(self.broken("it goes on after its end")),
                _ if taken == 0 && made == 0 => return Err(self.broken("it breaks off")),
                _ => {}
            }
        }
    }

    fn broken(self, reason: impl fmt::Display) -> CodingError {
        CodingError::Broken { coding: self, reason: reason.to_string() }
    }

    /// Compresses the pieces of a body.
    pub(crate) fn compress<'a>(self, pieces: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
        fn write<'a, W: Write>(mut encoder: W, pieces: impl Iterator<Item = &'a [u8]>) -> W {
            for piece in pieces {
                encoder.write_all(piece).expect("memory takes all that is written");
            }
            encoder
        }
        let compressed = match self {
            Self::Gzip => write(GzEncoder::new(Vec::new(), LEVEL), pieces).finish(),
            Self::Deflate => write(ZlibEncoder::new(Vec::new(), LEVEL), pieces).finish(),
        };
        compressed.expect("memory takes all that is written")
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        }
    }
}

impl fmt::Display for Coding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use quern_types::ByteSize;

    use super::*;
    use crate::{EdgeLimits, collect::BodyRoom};

    const BOTH: [Coding; 2] = [Coding::Gzip, Coding::Deflate];

    fn decompress(coding: Coding, body: &[u8], limit: ByteSize) -> Result<Vec<u8>, CodingError> {
        let limits = EdgeLimits { body_memory: ByteSize::mib(1), ..EdgeLimits::default() };
        let out = BodyRoom::new(&limits).growing(limit);
        coding.decompress(body, out).map(|body| body.to_vec())
    }

    fn headers(name: http::HeaderName, values: &[&'static str]) -> HeaderMap {
        values.iter().map(|value| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn what_is_compressed_comes_back() {
        let text = b"grain ".repeat(50_000);
        for coding in BOTH {
            let body = coding.compress([&text[..7], b"", &text[7..]].into_iter());
            assert!(body.len() < text.len() / 10);
            assert_eq!(decompress(coding, &body, ByteSize::mib(1)), Ok(text.clone()));
            let empty = coding.compress(std::iter::empty());
            assert_eq!(decompress(coding, &empty, ByteSize(0)), Ok(vec![]));
        }
        let members = [&b"a"[..], b"b"].map(|part| Coding::Gzip.compress(std::iter::once(part)));
        assert_eq!(decompress(Coding::Gzip, &members.concat(), ByteSize(2)), Ok(b"ab".to_vec()));
    }

    #[test]
    fn a_body_that_breaks_off_is_refused_wherever_it_does() {
        let text = b"a text that is long enough to be cut at many places".repeat(20);
        for coding in BOTH {
            let body = coding.compress(std::iter::once(&text[..]));
            for length in 0..body.len() {
                let outcome = decompress(coding, &body[..length], ByteSize::mib(1));
                assert!(matches!(outcome, Err(CodingError::Broken { .. })), "{coding} at {length}");
            }
            let more = [&body[..], b"more"].concat();
            let outcome = decompress(coding, &more, ByteSize::mib(1));
            assert!(matches!(outcome, Err(CodingError::Broken { .. })), "{coding} with more");
            let error = decompress(coding, b"{\"inputs\":[]}", ByteSize::mib(1)).expect_err("JSON");
            assert!(error.to_string().starts_with(&format!("body is not {coding}: ")), "{error}");
        }
    }

    #[test]
    fn no_more_is_made_of_a_body_than_it_may_have() {
        let zeros = vec![0; 8 << 20];
        for coding in BOTH {
            let bomb = coding.compress(std::iter::once(&zeros[..]));
            assert!(bomb.len() < 1 << 20);
            let limit = ByteSize(100_000);
            let refused = CodingError::Read(ReadError::TooLarge { limit });
            assert_eq!(decompress(coding, &bomb, limit), Err(refused.clone()));
            assert!(refused.to_string().starts_with("decompressed: request body is larger than"));
            let no_room = CodingError::Read(ReadError::NoRoom { total: ByteSize::mib(1) });
            assert_eq!(decompress(coding, &bomb, ByteSize::mib(100)), Err(no_room));
        }
    }

    #[test]
    fn the_encoding_of_a_body_is_known_or_refused() {
        let of = |values: &[&'static str]| Coding::of_body(&headers(CONTENT_ENCODING, values));
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&["identity"]), Ok(None));
        assert_eq!(of(&["GZip"]), Ok(Some(Coding::Gzip)));
        assert_eq!(of(&["deflate"]), Ok(Some(Coding::Deflate)));
        for (values, encoding) in [
            (&["br"][..], "br"),
            (&["gzip, gzip"], "gzip, gzip"),
            (&["gzip", "deflate"], "gzip, deflate"),
        ] {
            let encoding = encoding.to_owned();
            assert_eq!(of(values), Err(CodingError::Unknown { encoding }));
        }
    }

    #[test]
    fn where_no_body_has_an_encoding_all_are_refused() {
        let refuse = |values: &[&'static str]| Coding::refuse(&headers(CONTENT_ENCODING, values));
        assert_eq!((refuse(&[]), refuse(&["identity"])), (Ok(()), Ok(())));
        for encoding in ["gzip", "deflate", "br"] {
            let refused = CodingError::NotHere { encoding: encoding.to_owned() };
            assert_eq!(refuse(&[encoding]), Err(refused));
        }
    }

    #[test]
    fn a_client_gets_the_encoding_that_it_likes_best() {
        let cases: [(&[&'static str], Option<Coding>); 17] = [
            (&[], None),
            (&["gzip"], Some(Coding::Gzip)),
            (&["deflate"], Some(Coding::Deflate)),
            (&["gzip, deflate, br"], Some(Coding::Gzip)),
            (&["deflate", "gzip"], Some(Coding::Gzip)),
            (&["gzip;q=0.1, deflate;q=0.5"], Some(Coding::Deflate)),
            (&["gzip;q=0, deflate;q=0"], None),
            (&["*"], Some(Coding::Gzip)),
            (&["gzip;q=0, *"], Some(Coding::Deflate)),
            (&["br, identity"], None),
            (&["gzip;q=high"], None),
            (&[" GZIP ; q=1.0 "], Some(Coding::Gzip)),
            (&["gzip;Q=0, deflate;Q=0.5"], Some(Coding::Deflate)),
            (&["identity, gzip;q=0.5"], None),
            (&["gzip;q=0.5", "identity;q=0.8, *;q=0.1"], None),
            (&["identity;q=0.5, gzip;q=0.8"], Some(Coding::Gzip)),
            (&["identity, gzip"], Some(Coding::Gzip)),
        ];
        for (values, expected) in cases {
            let headers = headers(ACCEPT_ENCODING, values);
            assert_eq!(Coding::accepted(&headers), expected, "{values:?}");
        }
    }
}
