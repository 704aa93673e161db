//! What a configuration is made of, and what is refused.

use quern_types::{ByteSize, Period};

use super::{reload::Change, *};

fn config(text: &str) -> Result<Config, String> {
    let source = Source::of(text);
    let options = source.parse().map_err(|error| error.to_string())?;
    Config::new(options, &source).map_err(|error| error.to_string())
}

#[test]
fn an_empty_file_is_the_default() {
    let config = config("").expect("valid");
    assert_eq!(config.options, Options::default());
    assert_eq!(config.limits, LimitRules::default());
    assert_eq!(config, Flags::default().load().expect("valid"));
}

#[test]
fn what_is_printed_is_what_is_read() {
    let text = "[server]\nlog_format = 'json'\ndata = 'a \"b\"'\n[models]\nlanes = 3\nprocess = 'worker'\n\
                [http]\nmax_head = '10KB'\nhead_timeout = '1m 30s'\n\
                [shared_memory]\nprefix = '/mine'\n\
                [limits.ceilings]\nmemory = '32MiB'\nconcurrency = 7";
    let config = config(text).expect("valid");
    let printed = config.text();
    let again = self::config(&printed).unwrap_or_else(|error| panic!("{error} in\n{printed}"));
    assert_eq!(again.limits, config.limits);
    assert_eq!(again.text(), printed);
    assert_eq!(again.options.server, config.options.server);
    assert_eq!(again.options.shared_memory, config.options.shared_memory);
    assert_eq!(again.options.models.lanes, Some(Count(3)));
    assert_eq!(again.options.models.process, ModelProcess::Worker);
    assert_eq!(again.options.http.max_head.0, ByteSize(10_000));
}

#[test]
fn the_documentation_has_every_option() {
    let page = include_str!("../../../../docs/configuration.md");
    let reference = format!("```toml\n{}```", config("").expect("valid").text());
    assert!(
        page.contains(&reference),
        "docs/configuration.md must have this block, as `quern config` prints it:\n{reference}"
    );
}

#[test]
fn limits_that_are_not_given_follow_those_that_are() {
    let rules = config("[sandbox]\ninstances = 10\n[limits.ceilings]\nmemory = '32MiB'");
    let rules = rules.expect("valid").limits;
    assert_eq!(
        (rules.ceilings.memory, rules.defaults.memory),
        (ByteSize::mib(32), ByteSize::mib(32))
    );
    assert_eq!((rules.ceilings.concurrency, rules.defaults.concurrency), (10, 10));
    assert_eq!(rules.defaults.cpu, Limits::default().cpu);
    let rules = config("[limits.defaults]\ncpu = '7ms'").expect("valid").limits;
    assert_eq!(rules.defaults.cpu, Period::from_millis(7));
    assert_eq!(rules.ceilings, Limits::CEILING);
    let on_demand = "[sandbox]\npooling = false\ninstances = 10";
    assert_eq!(config(on_demand).expect("valid").limits, LimitRules::default());
}

#[test]
fn what_is_wrong_is_named_with_file_line_and_key() {
    let cases = [
        (
            "[htpp]",
            "test.toml, line 1, htpp: unknown field `htpp`, expected one of `server`, `tls`, `http`",
        ),
        (
            "\n[http]\nmax_heads = 1",
            "test.toml, line 3, http.max_heads: unknown field `max_heads`, expected one of",
        ),
        (
            "[limits.ceilings]\nmemroy = '1MiB'",
            "test.toml, line 2, limits.ceilings.memroy: unknown field `memroy`",
        ),
        (
            "limits = { defaults = { memory = 1 } }",
            "test.toml, line 1, limits.defaults.memory: invalid type",
        ),
        (
            "http.max_head = '1KiB'",
            "line 1, http.max_head: \"1KiB\" is out of bounds: write \"8KiB\"",
        ),
        ("[http]\n\nhead_timeout = 5", "line 3, http.head_timeout: invalid type: integer `5`"),
        ("[http]\nhead_timeout = 'soon'", "line 2, http.head_timeout: \"soon\" is not a time"),
        ("[server]\nlisten = 'here'", "line 2, server.listen: invalid socket address"),
        (
            "[shared_memory]\nprefix = '/'",
            "line 2, shared_memory.prefix: \"/\" is no beginning of names of shared memory",
        ),
        (
            "[server]\nauthenticate = true\n[shared_memory]\nprefix = '/x-'",
            "line 4, shared_memory.prefix: regions of shared memory belong to no tenant",
        ),
        (
            "[server]\nlog_filter = 'loud=loud'",
            "line 2, server.log_filter: \"loud=loud\" is not a filter",
        ),
        ("[tls]\ncertificate = 'a'", "tls.key: is not set although tls.certificate is"),
        ("[tls]\nkey = 'a'", "tls.certificate: is not set although tls.key is"),
        ("[server]\nlog_format = 'xml'", "line 2, server.log_format: unknown variant `xml`"),
        (
            "[models]\nprocess = 'elsewhere'",
            "line 2, models.process: unknown variant `elsewhere`, expected `in-process` or `worker`",
        ),
        ("[models]\nworker_memory = '1MiB'", "write \"256MiB\" to"),
        ("[models]\nlanes = 0", "line 2, models.lanes: 0 is out of bounds: write 1 to 1024"),
        ("[models]\nlanes = -1", "line 2, models.lanes: invalid value: integer `-1`"),
        ("[server]\ndata = 'a'\ndata = 'b'", "line 3: duplicate key"),
        ("[server\n", "test.toml, line 1: "),
        (
            "[limits.ceilings]\nmemory = '2GiB'",
            "test.toml, line 2, limits.ceilings.memory: \"2GiB\" is above the built-in ceiling of \"1GiB\"",
        ),
        (
            "[limits.ceilings]\nmemory = '1MiB'\n[limits.defaults]\nmemory = '2MiB'",
            "line 4, limits.defaults.memory: \"2MiB\" is above its ceiling of \"1MiB\"",
        ),
        (
            "[limits.defaults]\ntimeout = '2h'",
            "line 2, limits.defaults.timeout: \"2h\" is above its ceiling of \"1h\"",
        ),
        (
            "[limits.defaults]\ncpu = '0s'",
            "line 2, limits.defaults.cpu: is zero: nothing could run",
        ),
        ("[limits.ceilings]\nhandles = 0", "line 2, limits.ceilings.handles: is zero"),
        (
            "[sandbox]\ninstances = 10\n[limits.ceilings]\nconcurrency = 11",
            "line 4, limits.ceilings.concurrency: 11 is above sandbox.instances of 10",
        ),
        (
            "[http]\nbody_memory = '1MiB'",
            "line 2, http.body_memory: one body of max_json_body (64MiB) finds no room in \
             body_memory (1MiB)",
        ),
        ("[http]\nmax_json_body = '1GiB'", "line 2, http.max_json_body: one body of"),
        (
            "[async]\nattempts = 101",
            "line 2, async.attempts: 101 is above async.max_attempts of 100",
        ),
        ("[async]\nage = '8days'", "line 2, async.age: 8days is above async.max_age of 7days"),
    ];
    for (text, expected) in cases {
        let error = config(text).expect_err(expected);
        assert!(error.contains(expected), "{error:?} should contain {expected:?}");
    }
}

#[test]
fn flags_override_the_file_and_the_file_the_defaults() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let text = "[server]\nlisten = '127.0.0.1:1'\ninsecure = true\n[deploy]\nkeep_versions = 3\n\
                [logs]\nkeep_records = 4";
    std::fs::write(file.path(), text).expect("written");
    let flags = Flags {
        config: Some(file.path().to_owned()),
        listen: Some("127.0.0.1:2".parse().expect("an address")),
        lanes: Some(Count(5)),
        keep_versions: Some(Count(6)),
        ..Flags::default()
    };
    let Options { server, models, deploy, logs, .. } = flags.load().expect("valid").options;
    assert_eq!(server.listen.port(), 2);
    assert!(server.insecure, "from the file");
    assert_eq!(server.data, Server::default().data);
    assert_eq!(models.lanes, Some(Count(5)));
    assert_eq!((deploy.keep_versions.0, logs.keep_records.0), (6, 4));
}

#[test]
fn some_of_it_can_be_changed_while_a_server_runs() {
    let keys = |changes: &[Change]| -> Vec<String> {
        changes.iter().map(|change| change.key.clone()).collect()
    };
    // What is written, what takes effect, and what takes a restart.
    let cases: [(&str, &[&str], &[&str]); 5] = [
        ("", &[], &[]),
        (
            "[server]\nlog_filter = 'debug'\ndrain_timeout = '1s'\nauthenticate = true",
            &["server.log_filter", "server.drain_timeout"],
            &["server.authenticate"],
        ),
        (
            "[http]\nmax_connections = 9\nmax_head = '9KB'\nbody_timeout = '9s'\nbody_stall = '9s'",
            &["http.max_head", "http.body_stall"],
            &["http.max_connections", "http.body_timeout"],
        ),
        ("[tls]\ncertificate = 'a'\nkey = 'b'", &[], &["tls.certificate", "tls.key"]),
        ("[limits.defaults]\ncpu = '9ms'", &[], &["limits.defaults.cpu"]),
    ];
    let before = config("").expect("valid");
    for (text, live, later) in cases {
        let wanted = config(text).expect("valid");
        let mut next = before.clone();
        next.take_live(&wanted);
        assert_eq!(keys(&before.changes(&next)), live, "{text}");
        assert_eq!(keys(&next.changes(&wanted)), later, "{text}");
    }
    let with_tls =
        |name: &str| config(&format!("[tls]\ncertificate = '{name}'\nkey = 'k'")).expect("valid");
    let (mut running, wanted) = (with_tls("a"), with_tls("b"));
    running.take_live(&wanted);
    assert_eq!(running.changes(&wanted), []);
    let change = Change { key: "tls.certificate".into(), from: "\"b\"".into(), to: "\"a\"".into() };
    assert_eq!(running.changes(&with_tls("a")), [change]);
}

#[test]
fn a_file_that_can_not_be_read_is_named() {
    let flags = Flags { config: Some("/no/such/file.toml".into()), ..Flags::default() };
    let error = flags.load().expect_err("absent");
    assert!(matches!(error, ConfigError::Unreadable { .. }));
    assert!(error.to_string().contains("can't read the configuration /no/such/file.toml"));
}
