//! Signatures of Standard Webhooks (specification 1.0.0, symmetric scheme `v1`): HMAC-SHA256 of id,
//! time and body, under a secret that is written as `whsec_` and base64.

use std::time::SystemTime;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use quern_types::{SecretValue, Webhook};
use ring::{
    error::Unspecified,
    hmac,
    rand::{SecureRandom, SystemRandom},
};
use zeroize::Zeroizing;

/// How a secret is told from other texts.
const PREFIX: &str = "whsec_";
/// Bytes of a new secret; the specification asks for 24 to 64.
const BYTES: usize = 32;

/// A new secret; fails where the system gives no randomness.
pub(crate) fn new_secret() -> Result<SecretValue, Unspecified> {
    let mut bytes = Zeroizing::new([0; BYTES]);
    SystemRandom::new().fill(&mut bytes[..])?;
    let text = format!("{PREFIX}{}", BASE64_STANDARD.encode(&bytes[..]));
    Ok(SecretValue::new(text).expect("it has a fixed length"))
}

/// The secrets that sign at a time: the webhook's own, and the one before for as long as it is good.
/// None if the server can't open its own.
pub(crate) fn secrets_of(webhook: &Webhook, now: SystemTime) -> Option<Vec<&SecretValue>> {
    let own = webhook.secret.as_ref()?;
    let previous = webhook.previous.as_ref().filter(|previous| previous.until > now);
    let previous = previous.and_then(|previous| previous.secret.as_ref());
    Some(std::iter::once(own).chain(previous).collect())
}

/// Whether messages to a webhook can be signed at all.
pub(crate) fn can_sign(webhook: &Webhook, now: SystemTime) -> bool {
    secrets_of(webhook, now).is_some_and(|secrets| sign(&secrets, "", 0, "").is_some())
}

/// The value of `webhook-signature`: a signature for each secret. None if one is no secret.
pub(crate) fn sign(
    secrets: &[&SecretValue],
    id: &str,
    timestamp: u64,
    body: &str,
) -> Option<String> {
    let content = format!("{id}.{timestamp}.{body}");
    let signature = |secret: &&SecretValue| {
        let bytes = BASE64_STANDARD.decode(secret.expose().strip_prefix(PREFIX)?).ok()?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, &Zeroizing::new(bytes));
        Some(format!("v1,{}", BASE64_STANDARD.encode(hmac::sign(&key, content.as_bytes()))))
    };
    Some(secrets.iter().map(signature).collect::<Option<Vec<_>>>()?.join(" "))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use quern_types::PreviousSecret;

    use super::*;

    fn secret(text: &str) -> SecretValue {
        SecretValue::new(text.into()).expect("a secret")
    }

    #[test]
    fn signatures_are_those_of_others() {
        // What the reference libraries of Standard Webhooks are tested with.
        let secret = secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        let signature = sign(&[&secret], id, 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(signature.as_deref(), Some("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="));
    }

    #[test]
    fn a_secret_is_of_the_form_that_libraries_take_and_never_the_same() {
        let (one, other) = (new_secret().expect("random"), new_secret().expect("random"));
        assert_ne!(one.expose(), other.expose());
        let bytes = BASE64_STANDARD.decode(one.expose().strip_prefix(PREFIX).expect("a prefix"));
        assert_eq!(bytes.map(|bytes| bytes.len()), Ok(BYTES));
    }

    #[test]
    fn both_secrets_sign_while_one_replaces_the_other() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let previous = PreviousSecret { secret: Some(secret("whsec_b2xk")), until: at(10) };
        let webhook = Webhook {
            tenant: Default::default(),
            name: "shop".parse().expect("a name"),
            url: "https://example.com".parse().expect("an address"),
            created: at(0),
            secret_created: at(5),
            secret: Some(secret("whsec_bmV3")),
            previous: Some(previous),
        };
        let signing = |webhook: &Webhook, seconds| {
            let secrets = secrets_of(webhook, at(seconds))?;
            Some(secrets.iter().map(|secret| secret.expose().to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(
            signing(&webhook, 9).as_deref(),
            Some(&["whsec_bmV3", "whsec_b2xk"].map(Into::into)[..])
        );
        assert_eq!(signing(&webhook, 10).as_deref(), Some(&["whsec_bmV3".to_owned()][..]));
        let both = sign(&secrets_of(&webhook, at(9)).expect("open"), "a", 1, "").expect("secrets");
        assert_eq!(both.split(' ').filter(|part| part.starts_with("v1,")).count(), 2, "{both}");
        let locked = Webhook { secret: None, ..webhook };
        assert_eq!(signing(&locked, 9), None);
    }

    #[test]
    fn what_is_no_secret_signs_nothing() {
        for text in ["b2xk", "whsec_!", "whpk_b2xk"] {
            assert_eq!(sign(&[&secret(text)], "a", 1, ""), None, "{text}");
        }
    }
}
