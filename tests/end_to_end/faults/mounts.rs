//! File systems for one server alone, in a namespace of its own, which are gone with it. Only some
//! systems let a test have them: where they don't, it is said, and the simulator has to do.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use tempfile::TempDir;

use crate::support::Server;

/// A file system that will be mounted on a data folder.
pub(super) struct Mount {
    data: Arc<TempDir>,
    /// Mounts it on `$0`.
    script: String,
}

impl Mount {
    /// One in memory, of such a size.
    pub(super) fn tmpfs(size: &str) -> Option<Self> {
        Self::new(
            TempDir::new().expect("a folder"),
            format!("mount -t tmpfs -o size={size} none \"$0\""),
        )
    }

    /// One that takes no writes from the beginning.
    pub(super) fn tmpfs_read_only() -> Option<Self> {
        Self::new(TempDir::new().expect("a folder"), "mount -t tmpfs -o ro none \"$0\"".into())
    }

    /// One in a file, which takes no more writes once it finds that something is wrong with it.
    pub(super) fn ext4() -> Option<Self> {
        let data = TempDir::new().expect("a folder");
        let image = data.path().join("image");
        File::create(&image).and_then(|file| file.set_len(64 << 20)).expect("made");
        let formatted = Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(&image).status();
        if !formatted.is_ok_and(|status| status.success()) {
            return not_possible("mkfs.ext4");
        }
        let image = image.display();
        let script = format!("mount -o loop,errors=remount-ro '{image}' \"$0\"");
        Self::new(data, script)
    }

    fn new(data: TempDir, script: String) -> Option<Self> {
        fs::create_dir(data.path().join("data")).expect("made");
        let mount = Self { data: Arc::new(data), script };
        let tried = mount.program("true").stderr(Stdio::null()).status();
        match tried.is_ok_and(|status| status.success()) {
            true => Some(mount),
            false => not_possible(&mount.script),
        }
    }

    /// Starts a server whose data folder it is.
    pub(super) fn start(&self) -> Server {
        Server::start_program(self.server(), self.data.clone(), &[])
    }

    /// The server's program, once it is mounted.
    pub(super) fn server(&self) -> Command {
        self.program(env!("CARGO_BIN_EXE_quern"))
    }

    fn program(&self, program: &str) -> Command {
        let mut command = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            command.arg("--map-root-user");
        }
        command.args(["--mount", "sh", "-c"]);
        command.arg(format!("{} && exec \"$@\"", self.script)).arg(self.folder()).arg(program);
        command
    }

    /// The data folder, as it is called in the namespace.
    pub(super) fn folder(&self) -> PathBuf {
        self.data.path().join("data")
    }

    /// The data folder of a server, as it is called here.
    pub(super) fn seen_by(&self, server: &Server) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", server.process_id()));
        root.join(self.folder().strip_prefix("/").expect("is absolute"))
    }

    /// Takes so much of the room for something that is not the server's, or what is left.
    pub(super) fn take(&self, server: &Server, most: usize) {
        const PART: usize = 512;
        let file = File::options().create(true).append(true).open(self.filler(server));
        let mut file = file.expect("made");
        let mut parts = 0..most / PART;
        while parts.next().is_some() && file.write_all(&[1; PART]).is_ok() {}
    }

    /// Gives it back.
    pub(super) fn make_room(&self, server: &Server) {
        fs::remove_file(self.filler(server)).expect("is there");
    }

    fn filler(&self, server: &Server) -> PathBuf {
        self.seen_by(server).join("filler")
    }

    /// Has the file system find that something is wrong with it, as a bad disk would; says whether
    /// that could be done.
    pub(super) fn break_down(&self, server: &Server) -> bool {
        let mounts = fs::read_to_string(format!("/proc/{}/mounts", server.process_id()));
        let mounts = mounts.expect("a list of mounts");
        let folder = self.folder().display().to_string();
        let mount = mounts.lines().find(|line| line.split(' ').nth(1) == Some(&folder));
        let device = mount.and_then(|line| line.split(' ').next()).expect("is mounted");
        let device = Path::new(device).file_name().expect("a device");
        let trigger = Path::new("/sys/fs/ext4").join(device).join("trigger_fs_error");
        let done = fs::write(&trigger, "a test").is_ok();
        if !done {
            not_possible::<()>(&trigger.display().to_string());
        }
        done
    }
}

fn not_possible<T>(what: &str) -> Option<T> {
    println!("not tested: this system doesn't let a test have {what}");
    None
}
