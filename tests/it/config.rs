//! Settings files: what is read, and what is said about what is wrong.

use std::time::Duration;

use dethrone::arena::SandboxPolicy;
use dethrone::config::{
    ConfigError, MetricSetting, Missing, Mode, ModelConfig, ServeArgs, ServerConfig, VersionConfig,
};
use dethrone::model::head::{Calibration, Link};
use dethrone::score::Task;
use dethrone::span::Span;
use proptest::prelude::*;

/// The listing of the documentation, with every default spelled out.
const LISTING: &str = r#"
interface = "auto"              # features | tensors
isolation = "auto"
task = "auto"                   # binary | multiclass | regression
champion = ""
metric = "auto"
# bound = …
# clip = 0.05  cost = [[0,1],[5,0]]
threshold = 0.5
# features = ["period", …]
missing = "reject"
unknown = "ignore"
[label]
maturity = "24h"
horizon = "120d"
# absent = 0
[policy]
mode = "auto"
alpha = 0.01
margin = 0.0
min_labels = 200
dwell = "24h"
cooldown = "24h"
probation = "7d"
rollback_alpha = 0.01
rollback_wait = "7d"
min_coverage = 0.99
[guardrail]
[groups]
[shadow]
sample = 1.0
max_challengers = 16
[record]
"#;

fn model(text: &str) -> Result<ModelConfig, ConfigError> {
    ModelConfig::parse("model.toml", text)
}

fn server(text: &str) -> Result<ServerConfig, ConfigError> {
    ServerConfig::parse(&ServeArgs::default(), "dethrone.toml", text)
}

#[test]
fn the_listing_of_the_documentation_is_the_defaults() {
    assert_eq!(model(LISTING), Ok(ModelConfig::default()));
    assert_eq!(model(""), Ok(ModelConfig::default()));
    assert_eq!(model("\u{feff}threshold = 0.5\r\n"), Ok(ModelConfig::default()));
}

#[test]
fn every_key_of_a_model_arrives() {
    let config = model(
        r#"
interface = "tensors"
isolation = "inline"
task = "binary"
champion = "e01_logreg"
metric = "log_loss"
clip = 0.01
positive = 1
score_output = "probabilities"
link = "softmax"
threshold = 1
features = ["period", "day"]
missing = "nan"
unknown = "reject"
pins = false
label = { maturity = "48 rows", horizon = "336 rows", absent = 0 }
policy = { mode = "recommend", margin = -0.01, dwell = "48 rows" }
shadow.sample = 0.25
record.drop = ["email"]
"#,
    )
    .unwrap();
    assert_eq!(
        (config.task, config.metric, config.clip),
        (Some(Task::Binary), MetricSetting::LogLoss, 0.01)
    );
    assert_eq!(
        (config.positive.as_deref(), config.link),
        (Some("1"), Some(Link::Softmax))
    );
    assert_eq!(
        (config.missing, config.pins, config.policy.mode),
        (Missing::Nan, false, Mode::Recommend)
    );
    assert_eq!(
        (config.label.horizon, config.policy.dwell),
        (Span::Rows(336), Span::Rows(48))
    );
    assert_eq!(config.label.absent, Some(serde_json::json!(0)));
    assert_eq!(
        (config.policy.margin, config.policy.alpha, config.shadow.sample),
        (-0.01, 0.01, 0.25)
    );
    assert_eq!(config.record.drop, ["email"]);
    let stored = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<ModelConfig>(&stored).unwrap(), config);
}

#[test]
fn all_faults_of_a_file_are_reported_together_with_line_key_and_remedy() {
    let error = model(
        "treshold = 0.4\nmetric = \"breir\"\n[policy]\nalpha = 1.5\nmin_labels = \"many\"\n\n[polcy]\n[label]\nmaturity = \"1 fortnight\"\n",
    )
    .unwrap_err();
    let text = error.to_string();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 6, "{text}");
    for expected in [
        "model.toml line 1: treshold: unknown key: did you mean \"threshold\"?",
        "line 2: metric: \"breir\": must be one of \"auto\", \"log_loss\", \"brier\"",
        "did you mean \"brier\"?",
        "line 4: policy.alpha: 1.5: must be greater than 0 and less than 1",
        "line 5: policy.min_labels: \"many\": must be a whole number, not a string",
        "line 7: polcy: unknown key: did you mean \"policy\"?",
        "line 9: label.maturity: \"1 fortnight\": '1 fortnight' is not a span",
    ] {
        assert!(text.contains(expected), "{expected}\nnot in\n{text}");
    }
}

#[test]
fn each_bad_model_setting_says_what_to_change() {
    let cases = [
        ("alpha = 0.01", "unknown key"),
        ("policy = 3", "must be a table"),
        ("policy.alpha = 0", "greater than 0"),
        ("policy.alpha = nan", "finite"),
        ("policy.rollback_alpha = 1.0", "less than 1"),
        ("policy.min_labels = 0", "between 1"),
        ("policy.min_labels = -5", "whole number from 0"),
        ("policy.min_labels = 99999999999999999999999", "whole number"),
        ("policy.min_coverage = 1.1", "between 0 and 1"),
        ("policy.dwell = 24", "must be a span"),
        ("policy.dwell = \"24 hours\"", "is not a span"),
        ("policy.margin = 1.0", "smaller than the loss bound"),
        ("policy.mode = \"manual\"", "one of \"auto\", \"recommend\", \"off\""),
        ("shadow.sample = -0.1", "between 0 and 1"),
        ("shadow.max_challengers = 100000", "between 0 and 1000"),
        ("threshold = 2", "between 0 and 1"),
        ("threshold = \"half\"", "must be a number"),
        ("label.maturity = \"7d\"\nlabel.horizon = \"1d\"", "must not be shorter"),
        ("label.absent = []", "must be a label"),
        ("features = []", "each once"),
        ("features = [\"a\", \"a\"]", "each once"),
        ("features = [\"a\", 1]", "must be a string"),
        ("champion = \"a\\nb\"", "control characters"),
        ("metric = \"squared_error\"", "for example bound = 100.0"),
        ("metric = \"squared_error\"\nbound = 0", "greater than 0"),
        (
            "metric = \"squared_error\"\nbound = 1\ntask = \"binary\"",
            "is for regressions",
        ),
        ("metric = \"log_loss\"\nbound = 3", "remove it and set clip"),
        ("metric = \"log_loss\"\nclip = 0.5", "less than 0.5"),
        ("metric = \"brier\"\nbound = 2", "bounded by 1"),
        ("metric = \"brier\"\ntask = \"regression\"", "is for classes"),
        ("bound = 2", "beside it"),
        ("clip = 0.05", "belongs to metric"),
        ("metric = \"pinball\"\nbound = 3", "for example quantile = 0.9"),
        ("metric = \"pinball\"\nquantile = 0.9", "bound = \"auto\""),
        ("metric = \"pinball\"\nquantile = 1\nbound = 3", "less than 1"),
        ("metric = \"squared_error\"\nbound = \"big\"", "a number or \"auto\""),
        ("quantile = 0.9", "belongs to metric = \"pinball\""),
        ("cost = [[0,1],[5,0]]", "belongs to metric = \"cost\""),
        ("metric = \"cost\"", "for example cost = [[0, 1], [5, 0]]"),
        ("metric = \"cost\"\ncost = [[0,1]]", "must be square"),
        ("metric = \"cost\"\ncost = [[0,-1],[5,0]]", "from 0 on"),
        ("metric = \"cost\"\ncost = [[0,0],[0,0]]", "must cost something"),
        ("metric = \"cost\"\ncost = 5", "must be a list"),
        ("metric = \"cost\"\ncost = [[0,1],[5,0]]\nbound = 5", "largest cost"),
        (
            "metric = \"cost\"\ncost = [[0,1],[5,0]]\npolicy.margin = 5",
            "smaller than the loss bound (5.0000)",
        ),
        (
            "metric = \"cost\"\ncost = [[0,1],[5,0]]\ntask = \"regression\"",
            "is for classes",
        ),
        ("metric = \"auc\"\nbound = \"auto\"", "bounded by 1"),
        ("metric = \"auc\"\ntask = \"multiclass\"", "orders two classes"),
        ("metric = \"rewards\"", "for example bound = 100.0"),
        ("bound = \"auto\"", "beside it"),
        ("record.hash = [\"customer\"]", "list the fields in record.drop"),
        ("record.hsah = 1", "unknown key"),
        ("threshold = 0.5\nthreshold = 0.6", "not TOML"),
        ("threshold =", "not TOML"),
        ("[label", "not TOML"),
    ];
    for (text, expected) in cases {
        let error = model(text).expect_err(text).to_string();
        assert!(error.contains(expected), "{text}: {error}");
        assert!(error.starts_with("model.toml"), "{error}");
    }
}

#[test]
fn one_mistake_is_one_fault() {
    for text in [
        "metric = \"pinball\"\nbound = 3",
        "policy.alpha = 7",
        "metric = \"squared_error\"\nbound = 0",
    ] {
        assert_eq!(model(text).unwrap_err().faults.len(), 1, "{text}");
    }
}

#[test]
fn a_version_may_say_what_it_is() {
    let config = VersionConfig::parse(
        "e02.toml",
        "features = [\"a\"]\nthreshold = 0.3\ntwin = true\n[lineage]\nauthor = \"ann\"\nparent = \"e01\"\nticket = 17\n\
         trained = 2026-01-02\ndependencies = { numpy = \"2.1\" }\n[lineage.metrics]\nauc = 0.81\n",
    )
    .unwrap();
    assert!(config.twin && config.threshold == Some(0.3));
    assert_eq!(
        (config.lineage.author.as_deref(), config.lineage.metrics["auc"]),
        (Some("ann"), 0.81)
    );
    assert_eq!(config.lineage.other["ticket"], 17);
    assert_eq!(config.lineage.other["trained"], "2026-01-02");
    for (text, calibration) in [
        (
            "{ kind = \"platt\", a = 2, b = -0.5 }",
            Calibration::Platt { a: 2.0, b: -0.5 },
        ),
        (
            "{ kind = \"temperature\", t = 1.5 }",
            Calibration::Temperature { t: 1.5 },
        ),
        (
            "{ kind = \"isotonic\", x = [0.1, 0.9], y = [0, 1] }",
            Calibration::Isotonic {
                x: vec![0.1, 0.9],
                y: vec![0.0, 1.0],
            },
        ),
    ] {
        let read = VersionConfig::parse("e02.toml", &format!("calibration = {text}")).unwrap();
        assert_eq!(ModelConfig::default().head(&read).calibration, Some(calibration));
    }
    let threshold = |version| Some(ModelConfig::default().head(version).threshold);
    assert_eq!(threshold(&config), Some(0.3));
    assert_eq!(threshold(&VersionConfig::default()), Some(0.5));
    for (text, expected) in [
        ("threshold = 1.5", "between 0 and 1"),
        ("calibration = \"platt\"", "must be a table"),
        ("calibration = {}", "kind = \"platt\""),
        (
            "calibration = { kind = \"plat\", a = 1.0, b = 0.0 }",
            "did you mean \"platt\"?",
        ),
        ("calibration = { kind = \"platt\", a = 1.0 }", "calibration.b: missing"),
        (
            "calibration = { kind = \"platt\", a = -1.0, b = 0.0 }",
            "turn both signs",
        ),
        (
            "calibration = { kind = \"temperature\", t = 2.0, b = 0.0 }",
            "calibration.b: belongs to another kind",
        ),
        (
            "calibration = { kind = \"temperature\", t = 2.0, c = 0.0 }",
            "unknown key",
        ),
        (
            "calibration = { kind = \"isotonic\", x = [0.1, 0.5], y = [0.3, 0.2] }",
            "never fall",
        ),
        ("[lineage.metrics]\nauc = \"high\"", "lineage.metrics.auc"),
        ("twin = 1", "true or false"),
        ("twim = true", "did you mean \"twin\"?"),
    ] {
        let error = VersionConfig::parse("e02.toml", text).expect_err(text).to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn a_server_without_a_file_has_the_documented_defaults() {
    let config = server("").unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.grpc_listen.to_string(), "127.0.0.1:8081");
    assert_eq!(config.admin_listen.to_string(), "127.0.0.1:8082");
    assert_eq!(
        (config.metrics_listen, config.pins, config.settle_ms),
        (None, true, 500)
    );
    assert_eq!((config.max_body_bytes, config.max_rows), (64 << 20, 10_000));
    assert_eq!(
        (config.models.to_str(), config.state.to_str()),
        (Some("models"), Some("state"))
    );
    assert_eq!(config.default_timeout, Duration::from_secs(30));
    assert!(config.workers >= 1 && config.poll == Duration::from_secs(10));
    assert_eq!(
        (
            config.sandbox,
            config.runner.memory_bytes,
            config.runner.total_memory_bytes
        ),
        (SandboxPolicy::Prefer, 4 << 30, None)
    );
}

#[test]
fn a_flag_wins_over_the_file() {
    let args = ServeArgs {
        listen: Some("127.0.0.1:0".parse().unwrap()),
        max_rows: Some(7),
        models: Some("/m".into()),
        ..ServeArgs::default()
    };
    let flags = ServeArgs {
        sandbox: Some(SandboxPolicy::Require),
        ..ServeArgs::default()
    };
    let config = ServerConfig::parse(&flags, "dethrone.toml", "sandbox = \"prefer\"").unwrap();
    assert_eq!(config.sandbox, SandboxPolicy::Require);
    let file = "listen = \"0.0.0.0:9000\"\nmax_rows = 5\nmax_body_bytes = \"1MiB\"\npoll = \"2s\"\n[runner]\nmemory_bytes = \"512MiB\"";
    let config = ServerConfig::parse(&args, "dethrone.toml", file).unwrap();
    assert_eq!(
        (config.listen.port(), config.max_rows, config.max_body_bytes),
        (0, 7, 1 << 20)
    );
    assert_eq!(
        (config.models.to_str(), config.runner.memory_bytes),
        (Some("/m"), 512 << 20)
    );
    let args = ServeArgs {
        max_rows: Some(0),
        ..ServeArgs::default()
    };
    let error = ServerConfig::parse(&args, "dethrone.toml", "").unwrap_err().to_string();
    assert!(error.contains("--max-rows 0: must lie between 1"), "{error}");
}

#[test]
fn flags_and_variables_are_read_by_one_command_line() {
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        serve: ServeArgs,
    }
    let read = |flags: &[&str]| <Line as clap::Parser>::try_parse_from(std::iter::once(&"serve").chain(flags));
    let line = read(&[
        "--listen",
        "localhost:1",
        "--max-body-bytes",
        "2MiB",
        "--poll",
        "1s",
        "--gone",
        "2s",
        "--pins",
        "false",
    ])
    .unwrap();
    assert_eq!(line.serve.listen.unwrap().to_string(), "127.0.0.1:1");
    assert_eq!(
        (line.serve.max_body_bytes, line.serve.pins),
        (Some(2 << 20), Some(false))
    );
    let config = ServerConfig::parse(&line.serve, "dethrone.toml", "gone = \"5s\"").unwrap();
    assert_eq!(config.gone, Duration::from_secs(2));
    assert!(read(&["--listen", "8080"]).is_err() && read(&["--poll", "3 rows"]).is_err());
    let command = <Line as clap::CommandFactory>::command();
    for argument in command.get_arguments().filter(|a| a.get_id() != "help") {
        let flag = argument.get_long().unwrap().replace('-', "_").to_uppercase();
        assert_eq!(
            argument.get_env().unwrap().to_str().unwrap(),
            format!("DETHRONE_{flag}")
        );
    }
}

#[test]
fn each_bad_server_setting_says_what_to_change() {
    let cases = [
        (
            "admin_listen = \"0.0.0.0:8082\"",
            "set admin_listen to a loopback address",
        ),
        ("admin_listen = \"[::]:8082\"", "set admin_listen to a loopback address"),
        (
            "admin_listen = \"10.1.2.3:0\"",
            "set admin_listen to a loopback address",
        ),
        ("listen = \"8080\"", "is not an address"),
        ("listen = \"example.org:80\"", "is not an address"),
        ("listen = 8080", "must be an address"),
        ("listen = \"127.0.0.1:8081\"", "taken by listen"),
        ("lisen = \"127.0.0.1:1\"", "did you mean \"listen\"?"),
        ("max_body_bytes = \"64 megs\"", "is not a size"),
        ("max_body_bytes = 0", "between 1024"),
        ("max_body_bytes = -1", "whole number from 0"),
        ("max_body_bytes = \"99999999999999999999GiB\"", "is not a size"),
        ("max_rows = 0", "between 1 and 1000000"),
        ("max_rows = 1e3", "must be a whole number"),
        ("workers = 100000", "between 1 and 1024"),
        ("header_timeout = \"0s\"", "between 1ms and 1h"),
        ("header_timeout = 5", "must be a time"),
        ("poll = \"10 rows\"", "not a number of rows"),
        ("settle_ms = \"500\"", "must be a whole number"),
        ("models = \"\"", "must not be empty"),
        ("state = \"models/state\"", "move it out"),
        ("pins = \"no\"", "true or false"),
        (
            "[runner]\ncpu_timeout = \"9s\"\nwall_timeout = \"3s\"",
            "is shorter than cpu_timeout",
        ),
        ("sandbox = \"required\"", "did you mean \"require\"?"),
        ("[runner]\ntotal_memory_bytes = \"1MiB\"", "must be at least 67108864"),
        ("[runner]\nmemory = 1", "did you mean \"memory_bytes\"?"),
        ("[record]\nretention = \"90d\"", "not available"),
    ];
    for (text, expected) in cases {
        let error = server(text).expect_err(text).to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
    assert!(server("admin_listen = \"[::1]:8082\"").is_ok());
}

#[test]
fn files_that_are_no_files_are_named_and_absent_ones_are_defaults() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.toml");
    assert_eq!(ModelConfig::load(&path), Ok(ModelConfig::default()));
    std::fs::write(&path, [0xff, 0xfe]).unwrap();
    assert!(ModelConfig::load(&path).unwrap_err().to_string().contains("UTF-8"));
    std::fs::write(&path, vec![b'#'; (1 << 20) + 1]).unwrap();
    assert!(ModelConfig::load(&path).unwrap_err().to_string().contains("larger"));
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert!(
        ModelConfig::load(&path)
            .unwrap_err()
            .to_string()
            .contains("not a regular file")
    );
    let args = ServeArgs {
        config: Some(folder.path().join("none.toml")),
        ..ServeArgs::default()
    };
    assert!(
        ServerConfig::load(&args)
            .unwrap_err()
            .to_string()
            .contains("does not exist")
    );
}

#[test]
fn hostile_nesting_is_a_fault_and_no_crash() {
    for text in [
        "a = ".to_owned() + &"[".repeat(100_000),
        "a.".repeat(100_000) + "b = 1",
        "[[a]]\n".repeat(20_000),
    ] {
        assert!(model(&text).is_err());
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in "(?s).{0,200}") {
        let _ = (model(&text), server(&text), VersionConfig::parse("v.toml", &text));
    }

    #[test]
    fn no_value_under_a_known_key_panics(
        line in 0_usize..40,
        value in "(\"[^\"\\\\]{0,20}\"|-?[0-9]{1,25}|-?[0-9]{1,5}\\.[0-9]{1,5}|nan|inf|true|\\[\\]|\\{\\}|0x[0-9a-f]{1,20}|2026-01-02)",
    ) {
        let text: String = LISTING
            .lines()
            .enumerate()
            .map(|(i, l)| match l.split_once(" = ") {
                Some((key, _)) if i == line && !l.starts_with('#') => format!("{key} = {value}\n"),
                _ => format!("{l}\n"),
            })
            .collect();
        if let Err(error) = model(&text) {
            prop_assert!(!error.to_string().is_empty() && error.faults.iter().all(|fault| !fault.message.is_empty()));
        }
    }
}
