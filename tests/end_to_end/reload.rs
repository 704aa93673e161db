//! What changes when a server reads its configuration again, and what doesn't.

use std::{
    fs::File,
    path::PathBuf,
    process::{Command, Stdio},
    sync::Arc,
};

use tempfile::TempDir;

use crate::support::{Server, until};

/// A server with a configuration that can be changed, and a log that can be read.
struct Configured {
    server: Server,
    folder: TempDir,
}

impl Configured {
    fn start(text: &str) -> Self {
        let folder = TempDir::new().expect("a folder");
        let (config, log) = (folder.path().join("quern-server.toml"), folder.path().join("log"));
        std::fs::write(&config, text).expect("written");
        let mut command = Command::new(env!("CARGO_BIN_EXE_quern"));
        command.env_remove("QUERN_LOG").stderr(File::create(log).expect("made"));
        let data = Arc::new(TempDir::new().expect("a folder"));
        let flags = ["--config", config.to_str().expect("text")];
        Self { server: Server::start_program(command, data, &flags), folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).expect("a log")
    }

    /// Has the server read another configuration; gives what it logs of it once it has.
    async fn reload(&self, text: &str, outcome: &str) -> String {
        let counted = async || {
            let sample =
                format!("quern_reloads_total{{of=\"configuration\",outcome=\"{outcome}\"}} ");
            let text = self.server.get("/metrics").await.text();
            let count = text.lines().find_map(|line| line.strip_prefix(&sample));
            count.and_then(|count| count.parse::<u64>().ok()).expect("a count")
        };
        let (before, logged) = (counted().await, self.log().len());
        std::fs::write(self.path("quern-server.toml"), text).expect("written");
        let pid = self.server.process_id().to_string();
        let sent = Command::new("kill").args(["-HUP", &pid]).stdin(Stdio::null()).status();
        assert!(sent.expect("kill is there").success());
        until("it has read it", async || counted().await > before).await;
        self.log().split_off(logged)
    }
}

#[tokio::test]
async fn what_can_change_does_and_what_takes_a_restart_is_named() {
    let configured = Configured::start("[http]\nmax_json_body = '1MiB'");
    let server = &configured.server;
    let large = "x".repeat(2 << 20);
    server.deploy_digits_model().await;
    let path = "/v2/models/digits-mlp/infer";
    server.post(path, large.clone()).await.assert_error(413, "request-too-large", "1.0 MiB");
    let said = configured
        .reload(
            "[server]\nlog_filter = 'quern=debug'\ndrain_timeout = '7s'\ninsecure = true\n\
             [http]\nmax_json_body = '4MiB'\nmax_connections = 7\n[models]\nmax_waiting = 1",
            "taken",
        )
        .await;
    server.post(path, large.clone()).await.assert_error(400, "invalid-json", "");
    let line = |key: &str| {
        let found = said.lines().find(|line| line.contains(key));
        found.unwrap_or_else(|| panic!("{key} is not in {said}"))
    };
    for key in ["server.log_filter", "server.drain_timeout", "http.max_json_body"] {
        assert!(line(key).contains("changed"), "{said}");
    }
    for key in ["server.insecure", "http.max_connections", "models.max_waiting"] {
        assert!(line(key).contains("needs a restart"), "{said}");
    }
    assert!(!concerns(server).await.contains(&"configuration".to_owned()));
}

#[tokio::test]
async fn what_is_wrong_changes_nothing_and_is_told() {
    let configured = Configured::start("[http]\nmax_json_body = '1MiB'");
    let server = &configured.server;
    let bad = "[http]\nmax_json_body = '4MiB'\nmax_heads = 3";
    let said = configured.reload(bad, "refused").await;
    assert!(said.contains("line 3, http.max_heads: unknown field"), "{said}");
    assert!(concerns(server).await.contains(&"configuration".to_owned()));
    let metrics = server.get("/metrics").await.text();
    assert!(metrics.contains("quern_server_concern{code=\"configuration\"} 1"), "{metrics}");
    let alive = server.get("/healthz").await;
    assert_eq!((alive.status.as_u16(), alive.text().as_str()), (200, r#"{"status":"ok"}"#));
    let large = server.post("/v2/models/absent/infer", "x".repeat(2 << 20)).await;
    assert!(large.status.is_client_error(), "{}", large.text());
    configured.reload("[http]\nmax_json_body = '1MiB'", "taken").await;
    assert!(!concerns(server).await.contains(&"configuration".to_owned()));
}

/// What a server that takes requests says is wrong with it.
async fn concerns(server: &Server) -> Vec<String> {
    let health = server.get("/readyz").await;
    assert_eq!(health.status, 200, "it serves all the same");
    health.concerns()
}
