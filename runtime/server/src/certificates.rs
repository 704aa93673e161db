//! The certificate and the key that a server shows: read from their files at the start, and again
//! when those change. It never opens a connection.

use std::{
    fs::File,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io::{self, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use quern_gateway::{Identity, TlsError};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio::sync::mpsc;

/// Longest certificate chain or key, in bytes.
const MOST_BYTES: u64 = 1 << 20;
/// Files are read once they have not changed for this long: a certificate and its key are two.
const QUIET: Duration = Duration::from_millis(300);
/// Rights on a key's file that are none of others' business: the group may read it, and no more.
const WIDE: u32 = 0o027;

/// Where the certificate and its key lie, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CertificateFiles {
    /// The server's certificate, and those that lead to a root.
    pub(crate) certificate: PathBuf,
    /// The private key of the first of them.
    pub(crate) key: PathBuf,
}

/// What was read.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) identity: Identity,
    /// What it was read from.
    pub(crate) look: Look,
    /// Rights on the key's file that it should not give.
    pub(crate) wide: Option<u32>,
}

/// How both files looked: tells contents, and reasons why they can't be read, apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Look(u64);

/// What both files hold, and who may do what with the key.
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    key_mode: u32,
}

/// Why a certificate can't be used. Never quotes a file: one of them is secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    /// A file can't be read.
    #[error("can't read {}: {cause}", path.display())]
    Unreadable { path: PathBuf, cause: io::Error },
    /// A file is longer than any chain or key.
    #[error("{} is longer than {MOST_BYTES} bytes", path.display())]
    TooLong { path: PathBuf },
    /// A file holds something else.
    #[error("{} holds no {what} in PEM", path.display())]
    Missing { path: PathBuf, what: &'static str },
    /// They don't go together, or are of a kind that is not known.
    #[error("{} and {}: {cause}", files.certificate.display(), files.key.display())]
    Refused { files: Box<CertificateFiles>, cause: TlsError },
}

impl CertificateFiles {
    /// Reads both files. Whether they go together is found out where they are used.
    pub(crate) fn load(&self) -> Result<Loaded, CertificateError> {
        let contents = self.read()?;
        let look = contents.look();
        let Contents { certificate, key, key_mode } = contents;
        let missing = |path: &Path, what| CertificateError::Missing { path: path.to_owned(), what };
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&certificate)
            .collect::<Result<_, _>>()
            .map_err(|_| missing(&self.certificate, "certificates"))?;
        if chain.is_empty() {
            return Err(missing(&self.certificate, "certificate"));
        }
        let parsed = PrivateKeyDer::from_pem_slice(&key);
        let parsed = parsed.map_err(|_| missing(&self.key, "private key"))?;
        Ok(Loaded {
            identity: Identity { chain, key: parsed },
            look,
            wide: Some(key_mode & 0o777).filter(|mode| mode & WIDE != 0),
        })
    }

    /// How the files look now: whether anything about them has changed.
    pub(crate) fn look(&self) -> Look {
        match self.read() {
            Ok(contents) => contents.look(),
            Err(error) => {
                let mut hasher = DefaultHasher::new();
                hasher.write(error.to_string().as_bytes());
                Look(hasher.finish())
            }
        }
    }

    fn read(&self) -> Result<Contents, CertificateError> {
        let (certificate, _) = read(&self.certificate)?;
        let (key, key_mode) = read(&self.key)?;
        Ok(Contents { certificate, key, key_mode })
    }

    /// That both were read, and can't be used.
    pub(crate) fn refuse(&self, cause: TlsError) -> CertificateError {
        CertificateError::Refused { files: Box::new(self.clone()), cause }
    }

    /// Watches the folders of both files, where whatever replaces them has to show: an editor's
    /// rename as well as a link that leads elsewhere.
    pub(crate) fn watch(&self) -> notify::Result<Changes> {
        let (changed, changes) = mpsc::channel(1);
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if event.is_ok_and(|event| !matches!(event.kind, EventKind::Access(_))) {
                // Full: a change is waiting to be seen to already.
                let _ = changed.try_send(());
            }
        })?;
        let mut folders = [folder(&self.certificate), folder(&self.key)].to_vec();
        folders.dedup();
        for folder in folders {
            watcher.watch(folder, RecursiveMode::NonRecursive)?;
        }
        Ok(Changes { _watcher: watcher, changes, is_noticed: false })
    }
}

impl Contents {
    fn look(&self) -> Look {
        let mut hasher = DefaultHasher::new();
        self.certificate.hash(&mut hasher);
        self.key.hash(&mut hasher);
        Look(hasher.finish())
    }
}

/// Changes in the folders of the files.
pub(crate) struct Changes {
    _watcher: RecommendedWatcher,
    changes: mpsc::Receiver<()>,
    /// Whether a change was noticed that nobody was told of yet.
    is_noticed: bool,
}

impl Changes {
    /// Waits for a change, and until it is over. May be dropped at any time.
    pub(crate) async fn next(&mut self) {
        if !self.is_noticed && self.changes.recv().await.is_none() {
            // The watcher lives as long as this.
            return std::future::pending().await;
        }
        self.is_noticed = true;
        while let Ok(Some(())) = tokio::time::timeout(QUIET, self.changes.recv()).await {}
        self.is_noticed = false;
    }
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// What a file holds, and who may do what with it.
fn read(path: &Path) -> Result<(Vec<u8>, u32), CertificateError> {
    let unreadable = |cause| CertificateError::Unreadable { path: path.to_owned(), cause };
    let file = File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.permissions().mode();
    let mut content = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut content).map_err(unreadable)?;
    if content.len() as u64 > MOST_BYTES {
        return Err(CertificateError::TooLong { path: path.to_owned() });
    }
    Ok((content, mode))
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions, write};

    use rcgen::generate_simple_self_signed;
    use tempfile::TempDir;

    use super::*;

    fn files() -> (TempDir, CertificateFiles) {
        let folder = TempDir::new().expect("a folder");
        let made = generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let files = CertificateFiles {
            certificate: folder.path().join("tls.crt"),
            key: folder.path().join("tls.key"),
        };
        write(&files.certificate, made.cert.pem()).expect("written");
        write(&files.key, made.signing_key.serialize_pem()).expect("written");
        (folder, files)
    }

    #[test]
    fn a_key_that_others_can_read_is_noticed() {
        let (_folder, files) = files();
        for (mode, expected) in
            [(0o600, None), (0o440, None), (0o644, Some(0o644)), (0o660, Some(0o660))]
        {
            set_permissions(&files.key, Permissions::from_mode(mode)).expect("changed");
            assert_eq!(files.load().expect("a pair").wide, expected, "{mode:o}");
        }
    }

    #[test]
    fn what_is_no_certificate_or_key_is_named_and_never_quoted() {
        let (folder, files) = files();
        let before = files.load().expect("a pair").look;
        assert_eq!(files.look(), before, "nothing has changed");
        let garbled = folder.path().join("garbled.pem");
        let begin = "-----BEGIN PRIVATE KEY-----\nsecret!\n-----END PRIVATE KEY-----\n";
        write(&garbled, begin).expect("written");
        let long = folder.path().join("long.pem");
        write(&long, vec![b'x'; (MOST_BYTES + 1) as usize]).expect("written");
        let (good, absent) = (files.certificate.clone(), folder.path().join("absent"));
        let cases = [
            (&absent, &files.key, "can't read"),
            (&good, &absent, "can't read"),
            (&files.key, &files.key, "tls.key holds no certificate in PEM"),
            (&good, &good, "tls.crt holds no private key in PEM"),
            (&good, &garbled, "garbled.pem holds no private key in PEM"),
            (&long, &files.key, "long.pem is longer than 1048576 bytes"),
        ];
        for (certificate, key, expected) in cases {
            let files = CertificateFiles { certificate: certificate.clone(), key: key.clone() };
            let error = files.load().expect_err(expected).to_string();
            assert!(error.contains(expected) && !error.contains("secret"), "{error}");
            assert_ne!(files.look(), before, "{error}");
            assert_eq!(files.look(), files.look(), "{error}");
        }
    }

    #[tokio::test]
    async fn a_change_by_renaming_is_seen() {
        let (folder, files) = files();
        let mut changes = files.watch().expect("watched");
        let next = folder.path().join("next");
        write(&next, "something else").expect("written");
        std::fs::rename(&next, &files.certificate).expect("renamed");
        changes.next().await;
    }
}
