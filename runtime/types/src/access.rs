//! Who may do what: the roles that tokens give, and the tokens that there are. Never reads a clock
//! and never makes a secret; of secrets it keeps hashes.

use std::{collections::HashMap, fmt, str::FromStr, sync::Arc, time::SystemTime};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{TenantId, TenantLimits};

/// What a token allows; each role may do what those before it may.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Calls functions and models, and asks what there is to be called.
    Invoker,
    /// Deploys, rolls back and deletes what its tenant has, and reads its logs.
    Deployer,
    /// Runs the server: the tokens of all tenants, devices, metrics and the audit log.
    Admin,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 3] = [Self::Invoker, Self::Deployer, Self::Admin];

    /// The word of the API, the command line and the catalog.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invoker => "invoker",
            Self::Deployer => "deployer",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a text is not a [`Role`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("role {0:?} is not known: choose invoker, deployer or admin")]
pub struct InvalidRole(String);

impl FromStr for Role {
    type Err = InvalidRole;

    fn from_str(text: &str) -> Result<Self, InvalidRole> {
        let found = Self::ALL.into_iter().find(|role| role.as_str() == text);
        found.ok_or_else(|| InvalidRole(text.chars().take(40).collect()))
    }
}

/// Names a token, and is no secret: 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TokenId([u8; Self::BYTES]);

/// Why a text is not a [`TokenId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("token {0:?} is not valid: it is named by 16 digits of 0-9 and a-f")]
pub struct InvalidTokenId(String);

impl TokenId {
    const BYTES: usize = 8;

    /// Which of 256 parts it belongs to.
    fn place(self) -> usize {
        self.0[0].into()
    }
}

impl FromStr for TokenId {
    type Err = InvalidTokenId;

    fn from_str(text: &str) -> Result<Self, InvalidTokenId> {
        let bytes = from_hex(text);
        bytes.map(Self).ok_or_else(|| InvalidTokenId(text.chars().take(40).collect()))
    }
}

impl TryFrom<String> for TokenId {
    type Error = InvalidTokenId;

    fn try_from(text: String) -> Result<Self, InvalidTokenId> {
        text.parse()
    }
}

impl From<TokenId> for String {
    fn from(id: TokenId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

/// What a client shows: the name of a token and its secret, as `quern_<id>_<secret>`.
#[derive(Clone)]
pub struct Credential {
    id: TokenId,
    secret: [u8; Self::SECRET_BYTES],
}

impl Credential {
    /// What all of them begin with, for whoever searches texts for secrets.
    pub const PREFIX: &'static str = "quern_";
    /// Random bytes that one is made of.
    pub const BYTES: usize = TokenId::BYTES + Self::SECRET_BYTES;
    const SECRET_BYTES: usize = 32;

    /// The credential of these bytes, which must be random.
    pub fn from_random(random: [u8; Self::BYTES]) -> Self {
        let (id, secret) = random.split_at(TokenId::BYTES);
        Self {
            id: TokenId(id.try_into().expect("cut at the length of an id")),
            secret: secret.try_into().expect("what is left is a secret"),
        }
    }

    /// The credential that a text is, if it is one.
    pub fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(Self::PREFIX)?.split_once('_')?;
        Some(Self { id: TokenId(from_hex(id)?), secret: from_hex(secret)? })
    }

    /// The token that it is of.
    pub fn id(&self) -> TokenId {
        self.id
    }

    /// What is kept of the secret. It is random and long, so that no slow hash is needed.
    pub fn hash(&self) -> SecretHash {
        SecretHash(blake3::hash(&self.secret))
    }

    /// The text to show to its owner, once.
    pub fn reveal(&self) -> String {
        struct Hex<'a>(&'a [u8]);
        impl fmt::Display for Hex<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(f, self.0)
            }
        }
        format!("{}{}_{}", Self::PREFIX, self.id, Hex(&self.secret))
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}_…", Self::PREFIX, self.id)
    }
}

/// BLAKE3 of a secret. Two are compared in constant time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SecretHash(blake3::Hash);

impl SecretHash {
    /// As hexadecimal digits, for the catalog.
    pub fn to_hex(self) -> String {
        self.0.to_string()
    }

    /// The hash that [`SecretHash::to_hex`] has written.
    pub fn from_hex(text: &str) -> Option<Self> {
        blake3::Hash::from_hex(text).ok().map(Self)
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// A token, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Its name.
    pub id: TokenId,
    /// Whom it acts for.
    pub tenant: TenantId,
    /// What it allows.
    pub role: Role,
    /// What its maker noted about it.
    pub note: String,
    /// What is kept of its secret.
    pub hash: SecretHash,
    /// When it was made.
    pub created: SystemTime,
    /// From when on it allows nothing.
    pub expires: Option<SystemTime>,
}

/// Who asks for something: for whom, and what may be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Whose things it sees and changes.
    pub tenant: TenantId,
    /// What it may do.
    pub role: Role,
    /// The token that it showed; none where nobody is asked for one.
    pub token: Option<TokenId>,
}

impl Caller {
    /// What stands for a tenant where nobody shows a token.
    const ANONYMOUS: &str = "@anonymous";

    /// Whoever calls a server that asks nobody: the one tenant there is, and it may do anything.
    pub fn unasked() -> Self {
        Self { tenant: TenantId::default(), role: Role::Admin, token: None }
    }

    /// Whoever asks for what anybody may ask for. No tenant has its name, which is none.
    pub fn anonymous() -> Self {
        Self { tenant: TenantId::new(Self::ANONYMOUS), role: Role::Invoker, token: None }
    }

    /// Whether it is nobody in particular.
    pub fn is_anonymous(&self) -> bool {
        self.tenant.as_str() == Self::ANONYMOUS
    }
}

impl From<&Token> for Caller {
    fn from(token: &Token) -> Self {
        Self { tenant: token.tenant.clone(), role: token.role, token: Some(token.id) }
    }
}

/// Why a credential allows nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// No such token, or another secret.
    #[error("the token is not known: it may have been revoked")]
    Unknown,
    /// Its time is over.
    #[error("the token {id} has expired: ask for a new one")]
    Expired {
        /// The token.
        id: TokenId,
    },
}

/// Some tokens, by what names them.
type Tokens = HashMap<TokenId, Arc<Token>>;

/// Everyone who is let in at one moment, and how much they may ask for.
#[derive(Debug, Clone)]
pub struct Access {
    /// By the first byte of their ids, which are random: a snapshot with a token more or less shares
    /// all others with the one before.
    tokens: Box<[Arc<Tokens>]>,
    limits: Arc<HashMap<TenantId, TenantLimits>>,
}

impl Default for Access {
    fn default() -> Self {
        let tokens = (0..=u8::MAX).map(|_| Arc::default()).collect();
        Self { tokens, limits: Arc::default() }
    }
}

impl Access {
    /// Adds a token.
    pub fn add(&mut self, token: Token) {
        Arc::make_mut(&mut self.tokens[token.id.place()]).insert(token.id, Arc::new(token));
    }

    /// Takes a token away.
    pub fn remove(&mut self, id: TokenId) {
        Arc::make_mut(&mut self.tokens[id.place()]).remove(&id);
    }

    /// Says how much a tenant may ask for; nothing: as the server says.
    pub fn limit(&mut self, tenant: TenantId, limits: TenantLimits) {
        let all = Arc::make_mut(&mut self.limits);
        match limits.is_nothing() {
            true => drop(all.remove(&tenant)),
            false => drop(all.insert(tenant, limits)),
        }
    }

    /// What was said of how much a tenant may ask for.
    pub fn limits(&self, tenant: &TenantId) -> TenantLimits {
        self.limits.get(tenant).copied().unwrap_or_default()
    }

    /// Whether a token still lets in whoever has shown it.
    pub fn holds(&self, id: TokenId, now: SystemTime) -> bool {
        self.find(id).is_some_and(|token| token.expires.is_none_or(|expires| expires > now))
    }

    /// The token that a credential is of, if its secret is right and its time not over.
    pub fn check(
        &self,
        credential: &Credential,
        now: SystemTime,
    ) -> Result<&Arc<Token>, CredentialError> {
        let hash = credential.hash();
        let token = self.find(credential.id).filter(|token| token.hash == hash);
        let token = token.ok_or(CredentialError::Unknown)?;
        match token.expires {
            Some(expires) if expires <= now => Err(CredentialError::Expired { id: token.id }),
            _ => Ok(token),
        }
    }

    /// All tokens, in no order.
    pub fn tokens(&self) -> impl Iterator<Item = &Arc<Token>> {
        self.tokens.iter().flat_map(|tokens| tokens.values())
    }

    fn find(&self, id: TokenId) -> Option<&Arc<Token>> {
        self.tokens[id.place()].get(&id)
    }
}

fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// Exactly so many bytes, written with small digits.
fn from_hex<const BYTES: usize>(text: &str) -> Option<[u8; BYTES]> {
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let (pairs, []) = text.as_bytes().as_chunks() else { return None };
    let mut bytes = [0; BYTES];
    if pairs.len() != BYTES {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn credential(fill: u8) -> Credential {
        Credential::from_random([fill; Credential::BYTES])
    }

    fn token(credential: &Credential, expires: Option<SystemTime>) -> Token {
        Token {
            id: credential.id(),
            tenant: TenantId::new("acme"),
            role: Role::Deployer,
            note: String::new(),
            hash: credential.hash(),
            created: UNIX_EPOCH,
            expires,
        }
    }

    #[test]
    fn credentials_survive_their_text_and_hide_their_secret() {
        let made = credential(0xa7);
        let text = made.reveal();
        assert_eq!(text, format!("quern_{}_{}", "a7".repeat(8), "a7".repeat(32)));
        let parsed = Credential::parse(&text).expect("its own text");
        assert_eq!((parsed.id(), parsed.hash()), (made.id(), made.hash()));
        assert_eq!(format!("{made:?} {:?}", made.hash()), "quern_a7a7a7a7a7a7a7a7_… …");
        assert_eq!(SecretHash::from_hex(&made.hash().to_hex()), Some(made.hash()));
        assert_eq!(made.id().to_string().parse(), Ok(made.id()));
    }

    #[test]
    fn what_is_no_credential_is_none() {
        let good = credential(1).reveal();
        let cut = &good[..good.len() - 1];
        let upper = good.to_uppercase();
        let long = format!("{good}0");
        for text in ["", "quern_", "quern_x_y", cut, &upper, &long, &good[6..], "quern_é_é"] {
            assert!(Credential::parse(text).is_none(), "{text:?}");
        }
        for text in ["", "0", &"g".repeat(16), &"0".repeat(17)] {
            assert!(text.parse::<TokenId>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_token_lets_in_whoever_knows_its_secret_until_it_expires() {
        let (known, stranger) = (credential(1), credential(2));
        let mut forged = known.clone();
        forged.secret[31] ^= 1;
        let end = UNIX_EPOCH + Duration::from_secs(10);
        let mut access = Access::default();
        access.add(token(&known, Some(end)));
        let tenant = |credential, now| access.check(credential, now).map(|token| &token.tenant);
        let before = end - Duration::from_micros(1);
        assert_eq!(tenant(&known, before), Ok(&TenantId::new("acme")));
        assert_eq!(tenant(&known, end), Err(CredentialError::Expired { id: known.id() }));
        assert_eq!(tenant(&stranger, before), Err(CredentialError::Unknown));
        assert_eq!(tenant(&forged, before), Err(CredentialError::Unknown));
        // Whoever doesn't know the secret isn't told that its time is over.
        assert_eq!(tenant(&forged, end), Err(CredentialError::Unknown));
    }

    #[test]
    fn a_token_holds_until_it_expires_or_is_gone() {
        let (kept, other) = (credential(1), credential(2));
        let end = UNIX_EPOCH + Duration::from_secs(10);
        let mut access = Access::default();
        access.add(token(&kept, Some(end)));
        access.add(token(&other, None));
        let before = access.clone();
        assert!(access.holds(kept.id(), UNIX_EPOCH) && !access.holds(kept.id(), end));
        access.remove(kept.id());
        assert!(!access.holds(kept.id(), UNIX_EPOCH) && access.holds(other.id(), end));
        assert!(before.holds(kept.id(), UNIX_EPOCH), "a snapshot stays as it was");
        assert_eq!((before.tokens().count(), access.tokens().count()), (2, 1));
    }

    #[test]
    fn a_tenants_limits_are_what_was_last_said() {
        let (acme, mut access) = (TenantId::new("acme"), Access::default());
        let limits = TenantLimits { concurrency: Some(3), ..TenantLimits::default() };
        access.limit(acme.clone(), limits);
        assert_eq!(access.limits(&acme), limits);
        access.limit(acme.clone(), TenantLimits::default());
        assert!(access.limits(&acme).is_nothing());
    }

    #[test]
    fn roles_have_an_order_and_a_word() {
        assert!(Role::Invoker < Role::Deployer && Role::Deployer < Role::Admin);
        for role in Role::ALL {
            assert_eq!(role.as_str().parse(), Ok(role));
            assert_eq!(serde_json::to_string(&role).expect("JSON"), format!("\"{role}\""));
        }
        assert!("Admin".parse::<Role>().is_err());
    }
}
