//! Compiled code on disk. Loading machine code is trusting it, so every file ends in a seal that
//! only this node can make, and nothing without a valid one is ever returned. A file is never
//! changed once it has its name: it is mapped into memory where its code is loaded.

use std::{
    fs::{self, File, OpenOptions},
    hash::{Hash, Hasher},
    io::{self, Read, Write},
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use quern_types::Digest;
use wasmtime::Engine;

const SEAL_LEN: usize = 32;
/// How a file is laid out; part of an engine's identity, so that other ones are never read.
const LAYOUT: &[u8] = b"code, seal";

/// The folder of compiled code of one engine configuration.
pub(crate) struct Artifacts {
    folder: PathBuf,
    key: [u8; 32],
    engine: [u8; 32],
    writes: AtomicU64,
}

/// A file of machine code whose seal was found valid.
pub(crate) struct SealedCode(File);

impl SealedCode {
    /// Names the very file that was checked, whatever has its name in the folder meanwhile; valid as
    /// long as this lives.
    pub(crate) fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }
}

impl Artifacts {
    /// Opens `root`, making it and this node's secret key if they are absent, and removes code of
    /// other engines and what an interrupted write left.
    pub(crate) fn open(root: PathBuf, engine: &Engine) -> io::Result<Self> {
        fs::create_dir_all(&root)?;
        let key = node_key(&root.join("node.key"))?;
        let engine = engine_identity(engine);
        let name = hex(&engine[..8]);
        for entry in fs::read_dir(&root)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() && entry.file_name() != *name {
                fs::remove_dir_all(entry.path())?;
            }
        }
        let folder = root.join(name);
        fs::create_dir_all(&folder)?;
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "tmp") {
                fs::remove_file(path)?;
            }
        }
        Ok(Self { folder, key, engine, writes: AtomicU64::new(0) })
    }

    /// Where the code lies.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Keeps `code`. It can be made again at any time, so it is not forced to the disk; a file that
    /// a crash leaves incomplete has no valid seal.
    pub(crate) fn write(&self, content: &Digest, code: &[u8]) -> io::Result<()> {
        let write = self.writes.fetch_add(1, Ordering::Relaxed);
        let staged = self.folder.join(format!("{}.{write}.tmp", content.hex()));
        // Read-only from the start: a mapped file must not change.
        let result = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o400)
            .open(&staged)
            .and_then(|mut file| {
                file.write_all(code)?;
                file.write_all(self.seal(content, code)?.as_bytes())
            })
            .and_then(|()| fs::rename(&staged, self.path(content)));
        if result.is_err() {
            let _ = fs::remove_file(&staged);
        }
        result
    }

    /// The code of a component; none if it isn't there, or isn't what this node wrote for this
    /// content and this engine.
    pub(crate) fn read(&self, content: &Digest) -> io::Result<Option<SealedCode>> {
        let file = match File::open(self.path(content)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let valid = self.is_valid(content, &file)?;
        if !valid {
            tracing::warn!(%content, "compiled code has no valid seal and is made again");
            self.remove(content);
        }
        Ok(valid.then_some(SealedCode(file)))
    }

    /// Removes the code of all components but those that `keep` names by their digest's hex.
    pub(crate) fn retain(&self, keep: impl Fn(&str) -> bool) -> io::Result<()> {
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if !entry.file_name().to_str().is_some_and(&keep) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Removes the code of a component, if it is there.
    pub(crate) fn remove(&self, content: &Digest) {
        if let Err(error) = fs::remove_file(self.path(content))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%content, %error, "compiled code can't be removed");
        }
    }

    fn path(&self, content: &Digest) -> PathBuf {
        self.folder.join(content.hex())
    }

    fn is_valid(&self, content: &Digest, file: &File) -> io::Result<bool> {
        let Some(code_len) = file.metadata()?.len().checked_sub(SEAL_LEN as u64) else {
            return Ok(false);
        };
        let (mut file, mut seal) = (file, [0; SEAL_LEN]);
        let expected = self.seal(content, file.take(code_len))?;
        match file.read_exact(&mut seal) {
            // blake3's hashes compare in constant time.
            Ok(()) => Ok(expected == blake3::Hash::from_bytes(seal)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn seal(&self, content: &Digest, code: impl Read) -> io::Result<blake3::Hash> {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&self.engine).update(content.as_bytes()).update_reader(code)?;
        Ok(hasher.finalize())
    }
}

/// The secret that seals are made with; readable by the server's user alone. One that a crash left
/// incomplete is made anew: what the old one sealed can be compiled again.
fn node_key(path: &Path) -> io::Result<[u8; 32]> {
    match fs::read(path) {
        Ok(bytes) => {
            if let Ok(key) = bytes.try_into() {
                return Ok(key);
            }
            tracing::warn!(path = %path.display(), "the node's key is damaged and is made anew");
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(io::Error::other)?;
    let staged = path.with_extension("tmp");
    if let Err(error) = fs::remove_file(&staged)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&staged)?;
    file.write_all(&key)?;
    file.sync_all()?;
    fs::rename(&staged, path)?;
    Ok(key)
}

/// Names everything about an engine that its machine code depends on.
fn engine_identity(engine: &Engine) -> [u8; 32] {
    struct Blake3(blake3::Hasher);
    impl Hasher for Blake3 {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            let hash = self.0.finalize();
            u64::from_le_bytes(*hash.as_bytes().first_chunk().expect("a hash has 32 bytes"))
        }
    }
    let mut hasher = Blake3(blake3::Hasher::new());
    hasher.write(LAYOUT);
    engine.precompile_compatibility_hash().hash(&mut hasher);
    *hasher.0.finalize().as_bytes()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
