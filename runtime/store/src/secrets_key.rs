//! The key that secrets are sealed with, and sealing: ChaCha20-Poly1305 (RFC 8439) with a random
//! nonce. What is sealed can be opened only as what it was sealed as. Never knows where a key or a
//! sealed value is kept.

use std::{fmt, str::FromStr};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use quern_types::{Name, SettingKey, TenantId};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

use crate::rows::Key;

const BYTES: usize = 32;

/// A key for secrets. It is wiped when it is dropped, and `Debug` shows its id alone.
#[derive(Clone)]
pub struct SecretsKey {
    bytes: Zeroizing<[u8; BYTES]>,
    id: SecretsKeyId,
}

/// Names a key without telling anything of it: 16 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SecretsKeyId(String);

/// Why a text is no key; never quotes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a key for secrets is 32 bytes, written as 64 hexadecimal digits or in base64: \
     `quern secrets new-key` makes one"
)]
pub struct InvalidSecretsKey;

/// Why something sealed can't be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it was sealed with another key or as something else, or it was changed since")]
pub(crate) struct NotOpened;

/// What a value is sealed as: it can't be taken for anything else's.
pub(crate) enum SealedAs<'a> {
    /// A function's secret of a key.
    Setting { function: &'a Key, key: &'a SettingKey },
    /// What a webhook's messages are signed with.
    Webhook { tenant: &'a TenantId, webhook: &'a Name },
}

impl SecretsKey {
    /// A new key; fails where the system gives no randomness.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut bytes = Zeroizing::new([0; BYTES]);
        getrandom::fill(&mut bytes[..])?;
        Ok(Self::new(bytes))
    }

    /// What names it.
    pub fn id(&self) -> &SecretsKeyId {
        &self.id
    }

    /// The text to keep it as.
    pub fn reveal(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(2 * BYTES));
        self.bytes.iter().for_each(|byte| text.push_str(&format!("{byte:02x}")));
        text
    }

    fn new(bytes: Zeroizing<[u8; BYTES]>) -> Self {
        let id = blake3::derive_key("quern 2026-11 the id of a key for secrets", &bytes[..]);
        let id = id[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        Self { bytes, id: SecretsKeyId(id) }
    }

    /// A nonce and, behind it, the value in a form that only this key opens.
    pub(crate) fn seal(
        &self,
        sealed_as: &SealedAs<'_>,
        value: &str,
    ) -> Result<Vec<u8>, getrandom::Error> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce)?;
        let mut text = Zeroizing::new(value.as_bytes().to_vec());
        let tag = self
            .cipher()
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                sealed_as.associated_data(),
                &mut text,
            )
            .expect("a value is far shorter than what the cipher takes");
        Ok([&nonce[..], &text[..], tag.as_ref()].concat())
    }

    /// The value that was sealed.
    pub(crate) fn open(
        &self,
        sealed_as: &SealedAs<'_>,
        sealed: &[u8],
    ) -> Result<Zeroizing<String>, NotOpened> {
        let (nonce, text) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(NotOpened)?;
        let mut text = Zeroizing::new(text.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self.cipher().open_in_place(nonce, sealed_as.associated_data(), &mut text);
        let opened = opened.map_err(|_| NotOpened)?;
        std::str::from_utf8(opened)
            .map(|text| Zeroizing::new(text.to_owned()))
            .map_err(|_| NotOpened)
    }

    fn cipher(&self) -> LessSafeKey {
        let key = UnboundKey::new(&CHACHA20_POLY1305, &self.bytes[..]);
        LessSafeKey::new(key.expect("the key has the cipher's length"))
    }
}

impl SealedAs<'_> {
    /// No part can have the zero that separates it from the next.
    fn associated_data(&self) -> Aad<String> {
        Aad::from(match self {
            Self::Setting { function: Key { tenant, class, name }, key } => {
                format!("quern secret\0{tenant}\0{class}\0{name}\0{key}")
            }
            Self::Webhook { tenant, webhook } => format!("quern webhook\0{tenant}\0{webhook}"),
        })
    }
}

impl FromStr for SecretsKey {
    type Err = InvalidSecretsKey;

    fn from_str(text: &str) -> Result<Self, InvalidSecretsKey> {
        let text = text.trim();
        let bytes = Zeroizing::new(match text.len() {
            64 => from_hex(text).ok_or(InvalidSecretsKey)?,
            _ => BASE64_STANDARD.decode(text).map_err(|_| InvalidSecretsKey)?,
        });
        let bytes = <[u8; BYTES]>::try_from(&bytes[..]).map_err(|_| InvalidSecretsKey)?;
        Ok(Self::new(Zeroizing::new(bytes)))
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit =
        |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, []) = text.as_bytes().as_chunks() else { return None };
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

impl SecretsKeyId {
    /// The id that stands in a catalog.
    pub(crate) fn of_row(text: String) -> Self {
        Self(text)
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SecretsKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SecretsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretsKey({})", self.id)
    }
}

#[cfg(test)]
mod tests {
    use quern_types::Class;

    use super::*;

    fn function(tenant: &str, name: &str) -> Key {
        let name = name.parse().expect("a name");
        Key { tenant: TenantId::new(tenant), class: Class::Function, name }
    }

    fn key(text: &str) -> SettingKey {
        text.parse().expect("a key")
    }

    #[test]
    fn a_key_survives_its_text_and_is_not_shown() {
        let made = SecretsKey::generate().expect("random");
        let text = made.reveal();
        let base64 = BASE64_STANDARD.encode(&made.bytes[..]);
        for text in [&*text, &text.to_uppercase(), &base64, &format!(" {}\n", *text)] {
            let read: SecretsKey = text.parse().expect("a key");
            assert_eq!((read.id(), &*read.bytes), (made.id(), &*made.bytes));
        }
        let shown = format!("{made:?} {}", made.id());
        assert!(!shown.contains(&text[..16]) && shown.contains(made.id().as_str()), "{shown}");
        assert_ne!(SecretsKey::generate().expect("random").id(), made.id());
        for bad in ["", "00", &"g".repeat(64), &text[1..], &base64[4..], "a password"] {
            let error = bad.parse::<SecretsKey>().expect_err(bad).to_string();
            assert!(error.contains("new-key"), "{error}");
        }
    }

    #[test]
    fn what_is_sealed_opens_as_nothing_else() {
        let (right, wrong) = (SecretsKey::generate(), SecretsKey::generate());
        let (right, wrong) = (right.expect("random"), wrong.expect("random"));
        let (function, token) = (function("acme", "f"), key("token"));
        let sealed_as = SealedAs::Setting { function: &function, key: &token };
        let sealed = right.seal(&sealed_as, "hunter2").expect("random");
        assert!(!sealed.windows(7).any(|part| part == b"hunter2"));
        assert_ne!(sealed, right.seal(&sealed_as, "hunter2").expect("random"), "a nonce each");
        assert_eq!(right.open(&sealed_as, &sealed).expect("opens").as_str(), "hunter2");

        assert_eq!(wrong.open(&sealed_as, &sealed), Err(NotOpened));
        let others =
            [self::function("acme", "g"), self::function("other", "f"), self::function("acm", "e")];
        for function in &others {
            let moved = SealedAs::Setting { function, key: &token };
            assert_eq!(right.open(&moved, &sealed), Err(NotOpened), "{function:?}");
        }
        let renamed = SealedAs::Setting { function: &function, key: &key("tokens") };
        assert_eq!(right.open(&renamed, &sealed), Err(NotOpened));
        let webhook = SealedAs::Webhook { tenant: &function.tenant, webhook: &function.name };
        assert_eq!(right.open(&webhook, &sealed), Err(NotOpened));
        for place in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[place] ^= 1;
            assert_eq!(right.open(&sealed_as, &changed), Err(NotOpened), "byte {place}");
            assert_eq!(right.open(&sealed_as, &sealed[..place]), Err(NotOpened), "{place} bytes");
        }
    }
}
