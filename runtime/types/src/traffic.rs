//! How the requests to a name are shared out between its versions. To choose is a pure function of
//! the request: nothing is remembered between two of them.

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};

use http::{HeaderMap, HeaderName, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Canary, InvocationId, Name, VersionNumber};

/// A version's part of the requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// The version.
    pub version: VersionNumber,
    /// Of a hundred requests, how many it answers.
    #[schemars(range(min = 1, max = 100))]
    pub percent: u8,
}

/// Shares that add up to 100 %, in the order of their versions: where one of two shares grows, no
/// request that it had goes to the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Shares(Vec<Share>);

/// What of a request decides where it goes, so that requests with the same value go to the same
/// version for as long as the shares stay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "StickyNames", into = "StickyNames")]
pub enum Sticky {
    /// The value of a header.
    Header(HeaderName),
    /// The value of a cookie.
    Cookie(Arc<str>),
}

/// A version that gets copies of requests, whose answers nobody waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shadow {
    /// The version.
    pub version: VersionNumber,
    /// Of a hundred requests, how many it gets a copy of.
    pub percent: u8,
}

/// What is set for the requests to one name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Who answers; none: the live version.
    pub shares: Option<Shares>,
    /// What keeps requests together; none: each goes its own way.
    pub sticky: Option<Sticky>,
    /// Who gets copies.
    pub shadow: Option<Shadow>,
}

/// Everything beside the live version that decides where requests to a name go.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Routing {
    /// The shares, and what comes with them.
    pub traffic: Traffic,
    /// Names of versions, by which requests can ask for them.
    pub aliases: BTreeMap<Name, VersionNumber>,
    /// The last canary, whether or not it still runs.
    pub canary: Option<Arc<Canary>>,
}

/// A version that a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// The live one, whatever the shares.
    Live,
    /// By its number.
    Number(VersionNumber),
    /// By an alias.
    Alias(Name),
}

/// What decides which version answers a request.
#[derive(Debug, Clone, Copy)]
pub struct Choice<'a> {
    /// What it asks for; none: what the traffic gives it.
    pub selector: Option<&'a Selector>,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Its id.
    pub id: InvocationId,
}

/// What was chosen for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Picked {
    /// The version that answers.
    pub version: VersionNumber,
    /// Whether the request asks for just this version, so that no other will do.
    pub asked: bool,
    /// Whether how it ends is counted, to be compared with other versions.
    pub counted: bool,
    /// The version that gets a copy.
    pub shadow: Option<VersionNumber>,
}

/// Why traffic can't be set so. Each names the field that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTraffic {
    /// No versions, or too many.
    #[error("versions: has {found} entries, of 1 to {}", Shares::MOST)]
    Count {
        /// How many there are.
        found: usize,
    },
    /// A share is nothing, or more than everything.
    #[error("versions[{index}].percent: is {percent}, of 1 to 100; leave out what gets nothing")]
    Percent {
        /// Which one.
        index: usize,
        /// What it is.
        percent: u8,
    },
    /// A version has two shares.
    #[error("versions[{index}].version: version {version} is named before: give it one share")]
    Duplicate {
        /// The second one.
        index: usize,
        /// The version.
        version: VersionNumber,
    },
    /// The shares are more or less than everything.
    #[error("versions: the percentages add up to {sum}, not to 100")]
    Sum {
        /// What they add up to.
        sum: u32,
    },
    /// A shadow gets nothing, or more than everything.
    #[error("shadow.percent: is {percent}, of 1 to 100; leave out a shadow that gets nothing")]
    ShadowPercent {
        /// What it is.
        percent: u8,
    },
    /// A shadow would be compared with itself.
    #[error("shadow.version: version {version} answers all requests itself")]
    ShadowOfItself {
        /// The version.
        version: VersionNumber,
    },
}

/// Why a text names no header or cookie that requests can be kept together by.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSticky {
    /// It is none, or both.
    #[error("sticky: write either {{\"header\": \"x-user\"}} or {{\"cookie\": \"session\"}}")]
    Form,
    /// It can't be the name of a header.
    #[error("sticky.header: {0:?} is not the name of a header")]
    Header(String),
    /// The header is not the same for all requests of a client, or not passed on.
    #[error("sticky.header: {0} can't decide where requests go: use a header of its own")]
    Reserved(HeaderName),
    /// It can't be the name of a cookie.
    #[error("sticky.cookie: {0:?} is not the name of a cookie")]
    Cookie(String),
}

/// Why a text names no version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no version: write its number, an alias, or live")]
pub struct InvalidSelector(String);

/// Why no version was chosen: there is none of that number or name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnknownVersion {
    /// It is not kept.
    Number(VersionNumber),
    /// There is no such alias.
    Alias(Name),
}

impl Shares {
    /// Most versions that share the requests to one name.
    pub const MOST: usize = 8;

    /// These shares, in any order.
    pub fn new(mut shares: Vec<Share>) -> Result<Self, InvalidTraffic> {
        if shares.is_empty() || shares.len() > Self::MOST {
            return Err(InvalidTraffic::Count { found: shares.len() });
        }
        for (index, Share { version, percent }) in shares.iter().copied().enumerate() {
            if !(1..=100).contains(&percent) {
                return Err(InvalidTraffic::Percent { index, percent });
            }
            if shares[..index].iter().any(|other| other.version == version) {
                return Err(InvalidTraffic::Duplicate { index, version });
            }
        }
        let sum = shares.iter().map(|share| u32::from(share.percent)).sum();
        if sum != 100 {
            return Err(InvalidTraffic::Sum { sum });
        }
        shares.sort_by_key(|share| share.version);
        Ok(Self(shares))
    }

    /// Two versions: the first has what the second, `percent`, leaves.
    pub fn between(
        rest: VersionNumber,
        version: VersionNumber,
        percent: u8,
    ) -> Result<Self, InvalidTraffic> {
        let left = Share { version: rest, percent: 100u8.saturating_sub(percent) };
        Self::new(vec![left, Share { version, percent }])
    }

    /// The shares, by version.
    pub fn iter(&self) -> impl Iterator<Item = &Share> {
        self.0.iter()
    }

    /// The version that has everything, if one has.
    pub fn only(&self) -> Option<VersionNumber> {
        match *self.0 {
            [share] => Some(share.version),
            _ => None,
        }
    }

    /// Whether a version has a share.
    pub fn has(&self, version: VersionNumber) -> bool {
        self.0.iter().any(|share| share.version == version)
    }

    fn at(&self, lot: u64) -> VersionNumber {
        let mut place = percent_of(lot);
        for share in &self.0 {
            if place < share.percent {
                return share.version;
            }
            place -= share.percent;
        }
        self.0.last().expect("there is at least one share").version
    }
}

impl Sticky {
    const MAX_COOKIE: usize = 256;

    /// What requests are kept together by, of a request with these headers.
    pub fn key<'a>(&self, headers: &'a HeaderMap) -> Option<&'a [u8]> {
        match self {
            Self::Header(name) => headers.get(name).map(http::HeaderValue::as_bytes),
            Self::Cookie(name) => headers
                .get_all(header::COOKIE)
                .iter()
                .flat_map(|cookies| cookies.as_bytes().split(|byte| *byte == b';'))
                .filter_map(|pair| {
                    let pair = pair.trim_ascii();
                    let equals = pair.iter().position(|byte| *byte == b'=')?;
                    Some((&pair[..equals], &pair[equals + 1..]))
                })
                .find(|(own, _)| *own == name.as_bytes())
                .map(|(_, value)| value),
        }
    }

    /// A header by its name.
    pub fn header(name: &str) -> Result<Self, InvalidSticky> {
        let parsed: HeaderName =
            name.parse().map_err(|_| InvalidSticky::Header(name.chars().take(80).collect()))?;
        // A token is not passed on to functions, and cookies change with every other one of them.
        if matches!(parsed, header::AUTHORIZATION | header::COOKIE) {
            return Err(InvalidSticky::Reserved(parsed));
        }
        Ok(Self::Header(parsed))
    }

    /// A cookie by its name, which is a token of RFC 9110.
    pub fn cookie(name: &str) -> Result<Self, InvalidSticky> {
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || name.len() > Self::MAX_COOKIE || !name.bytes().all(token) {
            return Err(InvalidSticky::Cookie(name.chars().take(80).collect()));
        }
        Ok(Self::Cookie(name.into()))
    }
}

/// What keeps requests together: one of the two.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Sticky")]
struct StickyNames {
    /// The name of a header, whose value decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    header: Option<String>,
    /// The name of a cookie, whose value decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cookie: Option<String>,
}

impl TryFrom<StickyNames> for Sticky {
    type Error = InvalidSticky;

    fn try_from(names: StickyNames) -> Result<Self, InvalidSticky> {
        match (names.header, names.cookie) {
            (Some(name), None) => Self::header(&name),
            (None, Some(name)) => Self::cookie(&name),
            _ => Err(InvalidSticky::Form),
        }
    }
}

impl From<Sticky> for StickyNames {
    fn from(sticky: Sticky) -> Self {
        match sticky {
            Sticky::Header(name) => Self { header: Some(name.to_string()), cookie: None },
            Sticky::Cookie(name) => Self { header: None, cookie: Some(name.to_string()) },
        }
    }
}

impl Traffic {
    /// Checks what can be checked without knowing which versions there are.
    pub fn check(&self) -> Result<(), InvalidTraffic> {
        let Some(Shadow { version, percent }) = self.shadow else { return Ok(()) };
        if !(1..=100).contains(&percent) {
            return Err(InvalidTraffic::ShadowPercent { percent });
        }
        match self.shares.as_ref().and_then(Shares::only) {
            Some(only) if only == version => Err(InvalidTraffic::ShadowOfItself { version }),
            _ => Ok(()),
        }
    }
}

impl Routing {
    /// Whether it says nothing, so that all requests go to the live version.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The versions that it names and that have to be kept.
    pub fn versions(&self) -> impl Iterator<Item = VersionNumber> {
        let shares = self.traffic.shares.iter().flat_map(Shares::iter).map(|share| share.version);
        let shadow = self.traffic.shadow.iter().map(|shadow| shadow.version);
        shares.chain(shadow).chain(self.aliases.values().copied())
    }

    /// What is chosen for a request that asks for nothing.
    pub(crate) fn choose(&self, live: VersionNumber, name: &Name, choice: &Choice<'_>) -> Picked {
        let Traffic { shares, sticky, shadow } = &self.traffic;
        let counted = shares.is_some();
        if !counted && shadow.is_none() {
            return Picked { version: live, asked: false, counted, shadow: None };
        }
        let key = sticky.as_ref().and_then(|sticky| sticky.key(choice.headers));
        let lots = Lots::draw(name, key.unwrap_or(choice.id.as_bytes()));
        let version = shares.as_ref().map_or(live, |shares| shares.at(lots.version));
        let shadow = shadow
            .filter(|shadow| shadow.version != version && percent_of(lots.shadow) < shadow.percent)
            .map(|shadow| shadow.version);
        Picked { version, asked: false, counted, shadow }
    }
}

/// Two numbers that a key always gives, evenly spread over all keys. The name is a part of the key,
/// so that it is not always the same clients that meet something new.
struct Lots {
    version: u64,
    shadow: u64,
}

impl Lots {
    fn draw(name: &Name, key: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(name.as_str().as_bytes()).update(&[0]).update(key);
        let hash = hasher.finalize();
        let lot = |at: usize| {
            let bytes = hash.as_bytes()[at..at + 8].try_into().expect("a hash has 32 bytes");
            u64::from_le_bytes(bytes)
        };
        Self { version: lot(0), shadow: lot(8) }
    }
}

/// The place of a lot among 100, from 0.
fn percent_of(lot: u64) -> u8 {
    ((u128::from(lot) * 100) >> 64) as u8
}

impl FromStr for Selector {
    type Err = InvalidSelector;

    fn from_str(text: &str) -> Result<Self, InvalidSelector> {
        let invalid = || InvalidSelector(text.chars().take(80).collect());
        if text == Self::LIVE {
            return Ok(Self::Live);
        }
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return text.parse().map(Self::Number).map_err(|_| invalid());
        }
        text.parse().map(Self::Alias).map_err(|_| invalid())
    }
}

impl Selector {
    /// The word for the live version, which no alias can be.
    pub const LIVE: &str = "live";
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Live => f.write_str(Self::LIVE),
            Self::Number(number) => number.fmt(f),
            Self::Alias(alias) => alias.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests;
