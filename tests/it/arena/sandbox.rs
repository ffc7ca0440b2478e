//! What keeps a runner in, tried from inside, and what is done where the system lacks it.
#![allow(
    unsafe_code,
    reason = "some calls that a captive must not make have no safe interface"
)]

use std::io::Write;
use std::os::unix::process::CommandExt;

use dethrone::arena::SandboxPolicy;
use dethrone::arena::channel::Channel;
use dethrone::arena::wire::{Reply, Request};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

use super::*;
use crate::support::Site;

#[test]
fn a_runner_is_confined_in_all_its_threads_and_holds_nothing_but_its_channel() {
    let mut runner = RunnerClient::new(spawner().spawn(RunnerSpec::default()).unwrap()).unwrap();
    let confinement = runner.ping(LONG).unwrap();
    assert_eq!(confinement.lacks(), Vec::<&str>::new());
    assert!(confinement.network, "this kernel knows rules for the network");
    runner.load(&file("mean.onnx"), 3, LONG, LONG).unwrap();
    let proc = PathBuf::from(format!("/proc/{}", runner.process().pid()));
    let threads: Vec<PathBuf> = std::fs::read_dir(proc.join("task"))
        .unwrap()
        .map(|t| t.unwrap().path())
        .collect();
    assert!(threads.len() >= 3, "a session on three threads has two of its own");
    for thread in threads {
        let status = std::fs::read_to_string(thread.join("status")).unwrap();
        let line = |name: &str| status.lines().find_map(|l| l.strip_prefix(name)).map(str::trim);
        assert_eq!(
            (line("Seccomp:"), line("NoNewPrivs:")),
            (Some("2"), Some("1")),
            "{status}"
        );
    }
    // What the model came in is closed again.
    let held: Vec<String> = std::fs::read_dir(proc.join("fd"))
        .unwrap()
        .map(|fd| std::fs::read_link(fd.unwrap().path()).unwrap().display().to_string())
        .collect();
    let sockets: Vec<&String> = held.iter().filter(|what| what.starts_with("socket:")).collect();
    assert!(
        held.len() - sockets.len() == 2 && sockets.iter().all(|s| *s == sockets[0]),
        "{held:?}"
    );
    assert_eq!(
        runner.run(&[triples(&[1.5])], &[0], LONG, LONG).unwrap(),
        [floats(&[1, 1], &[1.5])]
    );
}

#[test]
fn weights_in_another_file_reach_a_runner_that_can_open_none() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/exports/torch_external.onnx");
    let mut session = Session::load(&path, 1).unwrap();
    let width = usize::try_from(*session.signature().inputs[0].shape.last().unwrap()).unwrap();
    let cells: Vec<f32> = (0..width).map(|i| i as f32 / 7.0).collect();
    let inputs = [floats(&[1, width], &cells)];
    let here = session.run(&inputs, &[0]).unwrap();
    let mut runner = RunnerClient::new(spawner().spawn(RunnerSpec::default()).unwrap()).unwrap();
    runner.load(&path, 1, LONG, LONG).unwrap();
    assert_eq!(runner.run(&inputs, &[0], LONG, LONG).unwrap(), here);
    let folder = tempfile::tempdir().unwrap();
    let alone = folder.path().join("torch_external.onnx");
    std::fs::copy(&path, &alone).unwrap();
    let fault = runner.load(&alone, 1, LONG, LONG);
    assert!(
        matches!(&fault, Err(RunnerFault::Model(why)) if why.contains("torch_external.onnx.data")),
        "{fault:?}"
    );
}

/// Starts this very test program in the runner's place, to confine itself as a runner does and then try something.
fn captive(folder: &Path, attempt: &str) -> RunnerClient {
    captive_as(SandboxPolicy::Require, folder, attempt)
}

fn captive_as(policy: SandboxPolicy, folder: &Path, attempt: &str) -> RunnerClient {
    let path = folder.join(attempt.replace(' ', "-"));
    let script = format!(
        "DETHRONE_TEST_CAPTIVE='{attempt}' DETHRONE_TEST_POLICY={} DETHRONE_TEST_FOLDER='{}' exec '{}' --exact arena::sandbox::the_captive --nocapture",
        policy.name(),
        folder.display(),
        std::env::current_exe().unwrap().display()
    );
    super::runner::in_the_runners_place(path, &script)
}

/// Not a test by itself: what runs in the runner's place.
#[test]
fn the_captive() {
    let Ok(attempt) = std::env::var("DETHRONE_TEST_CAPTIVE") else {
        return;
    };
    let folder = PathBuf::from(std::env::var_os("DETHRONE_TEST_FOLDER").unwrap());
    // What the parent opened before it was confined stays open, and would be of use to nobody.
    let parent = std::os::unix::process::parent_id();
    let policies = [SandboxPolicy::Require, SandboxPolicy::Prefer];
    let wanted = std::env::var("DETHRONE_TEST_POLICY").unwrap();
    let policy = policies.into_iter().find(|known| known.name() == wanted).unwrap();
    let (stream, confinement) =
        dethrone::arena::runner::enter(parent, (&RunnerLimits::default(), false), policy).unwrap();
    assert!(policy == SandboxPolicy::Prefer || confinement.lacks().is_empty());
    let mut channel = Channel::taking_descriptors(stream);
    let Ok(Request::Load { .. }) = Request::decode(channel.receive(&mut Channel::forever).unwrap()) else {
        panic!("not a load");
    };
    let model = channel.descriptor().map(std::fs::File::from).unwrap();
    let said = attempted(&attempt, &folder, model);
    let reason = said.map_or_else(|error| format!("denied: {error}"), |()| "it worked".into());
    channel
        .send(|out| Reply::LoadFailed { reason }.encode(out), &mut Channel::forever)
        .unwrap();
    let _ = channel.receive(&mut Channel::forever);
}

fn attempted(attempt: &str, folder: &Path, mut model: std::fs::File) -> std::io::Result<()> {
    use std::fs;
    let call = |number: libc::c_long, a: libc::c_long, b: libc::c_long, c: libc::c_long, d: libc::c_long| {
        // SAFETY: each of them is denied, or ends the process; were it not, it would get numbers and null pointers.
        let result = unsafe { libc::syscall(number, a, b, c, d, -1, 0) };
        if result < 0 {
            return Err(std::io::Error::last_os_error());
        }
        Ok(())
    };
    match attempt {
        "open a file" => fs::File::open("/etc/passwd").map(drop),
        "list a folder" => fs::read_dir(folder).map(drop),
        "look at a file" => fs::metadata("/etc/passwd").map(drop),
        "write a file" => fs::File::create(folder.join("written")).map(drop),
        "remove a file" => fs::remove_file(folder.join("bait")),
        "link a file" => fs::hard_link(folder.join("bait"), folder.join("link")),
        "cut the model off" => model.set_len(0),
        "write into the model" => model.write_all(b"x"),
        "start a process" => Command::new("/bin/true").status().map(drop),
        "map memory to run" => call(
            libc::SYS_mmap,
            0,
            4_096,
            (libc::PROT_READ | libc::PROT_EXEC).into(),
            (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS).into(),
        ),
        "open itself to tracers" => call(libc::SYS_prctl, libc::PR_SET_DUMPABLE.into(), 1, 0, 0),
        // The kernel would send it whatever signal is asked for, when bytes come in.
        "have the kernel signal the parent" => call(
            libc::SYS_fcntl,
            0,
            libc::F_SETOWN.into(),
            std::os::unix::process::parent_id().into(),
            0,
        ),
        "pin the parent to a processor" => call(
            libc::SYS_sched_setaffinity,
            std::os::unix::process::parent_id().into(),
            0,
            0,
            0,
        ),
        "make a namespace" => call(
            libc::SYS_clone,
            (libc::CLONE_VM | libc::CLONE_SIGHAND | libc::CLONE_THREAD | libc::CLONE_NEWNET).into(),
            0,
            0,
            0,
        ),
        "become a program" => Err(Command::new("/bin/true").exec()),
        "connect" => std::net::TcpStream::connect("127.0.0.1:9").map(drop),
        "ask a name server" => std::net::UdpSocket::bind("0.0.0.0:0").map(drop),
        "trace the parent" => call(
            libc::SYS_ptrace,
            16, // PTRACE_ATTACH
            std::os::unix::process::parent_id().into(),
            0,
            0,
        ),
        "signal the parent" => call(libc::SYS_kill, std::os::unix::process::parent_id().into(), 0, 0, 0),
        "use io_uring" => call(libc::SYS_io_uring_setup, 1, 0, 0, 0),
        "load a filter for the kernel" => call(libc::SYS_bpf, 0, 0, 0, 0),
        other => panic!("nobody knows how to {other}"),
    }
}

#[test]
fn what_was_taken_over_gets_at_nothing() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("bait"), "bait").unwrap();
    let denied = [
        "open a file",
        "list a folder",
        "look at a file",
        "write a file",
        "remove a file",
        "link a file",
        "cut the model off",
        "write into the model",
        "start a process",
        "map memory to run",
        "open itself to tracers",
        "have the kernel signal the parent",
        "pin the parent to a processor",
        "make a namespace",
    ];
    for attempt in denied {
        let outcome = captive(folder.path(), attempt).load(&file("mean.onnx"), 1, LONG, LONG);
        let Err(RunnerFault::Model(said)) = &outcome else {
            panic!("{attempt}: {outcome:?}");
        };
        assert!(said.starts_with("denied: Operation not permitted"), "{attempt}: {said}");
    }
    let fatal = [
        "become a program",
        "connect",
        "ask a name server",
        "trace the parent",
        "signal the parent",
        "use io_uring",
        "load a filter for the kernel",
    ];
    for attempt in fatal {
        let outcome = captive(folder.path(), attempt).load(&file("mean.onnx"), 1, LONG, LONG);
        assert_eq!(outcome, Err(RunnerFault::Crashed("SIGSYS".into())), "{attempt}");
    }
    assert!(folder.path().join("bait").exists() && !folder.path().join("written").exists());
}

/// Runs `work` where the system denies a call to it and to whatever it starts, as a container might.
fn without<T: Send>(call: libc::c_long, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let denied = scope.spawn(move || {
            let filter = SeccompFilter::new(
                [(call, Vec::new())].into(),
                SeccompAction::Allow,
                SeccompAction::Errno(u32::try_from(libc::ENOSYS).unwrap()),
                std::env::consts::ARCH.try_into().unwrap(),
            );
            let program: BpfProgram = filter.unwrap().try_into().unwrap();
            apply_filter(&program).unwrap();
            work()
        });
        denied.join().unwrap()
    })
}

/// The filter hides from the test above whether there are rules at all.
#[test]
fn where_there_is_no_filter_landlock_alone_denies_files_and_connections() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("bait"), "bait").unwrap();
    for attempt in [
        "open a file",
        "list a folder",
        "write a file",
        "remove a file",
        "connect",
    ] {
        let outcome = without(libc::SYS_seccomp, || {
            captive_as(SandboxPolicy::Prefer, folder.path(), attempt).load(&file("mean.onnx"), 1, LONG, LONG)
        });
        let Err(RunnerFault::Model(said)) = &outcome else {
            panic!("{attempt}: {outcome:?}");
        };
        assert!(said.starts_with("denied: Permission denied"), "{attempt}: {said}");
    }
    assert!(folder.path().join("bait").exists() && !folder.path().join("written").exists());
}

#[test]
fn where_a_facility_is_lacking_it_is_named_and_require_refuses_to_start() {
    for (call, name) in [
        (libc::SYS_landlock_create_ruleset, "landlock file rules"),
        (libc::SYS_seccomp, "seccomp filters"),
    ] {
        let site = Site::new("sandbox = \"require\"\n");
        let (code, said) = without(call, || site.refused());
        assert_eq!(code, Some(78), "{said}");
        assert!(said.contains(name) && said.contains("sandbox = \"prefer\""), "{said}");

        let site = Site::new("");
        site.drop_file("m", "v1", &file("mean.onnx"));
        let gateway = without(call, || site.start());
        let shown = gateway.admin("/api/models")["sandbox"].clone();
        assert_eq!(shown["setting"], "prefer");
        let lacks = shown["lacks"].as_array().unwrap();
        assert!(
            lacks.len() == 1 && lacks[0].as_str().unwrap().starts_with(name),
            "{shown}"
        );
        assert!(site.log().contains(name), "{}", site.log());
    }
}

#[test]
fn a_whole_sandbox_is_shown_and_satisfies_require() {
    let site = Site::new("sandbox = \"require\"\n");
    let gateway = site.start();
    let shown = gateway.admin("/api/models")["sandbox"].clone();
    let expected = serde_json::json!({
        "setting": "require", "no_new_privs": true, "files": true, "network": true, "system_calls": true, "lacks": [],
    });
    assert_eq!(shown, expected);
}

#[test]
fn a_vetting_ends_when_its_processor_time_is_used_up_in_all() {
    let spec = RunnerSpec {
        limits: RunnerLimits {
            cpu_seconds: Some(1),
            ..RunnerLimits::default()
        },
        show_stderr: false,
    };
    let mut runner = RunnerClient::new(spawner().spawn(spec).unwrap()).unwrap();
    runner.load(&file("hang.onnx"), 1, LONG, LONG).unwrap();
    let fault = runner.run(&[triples(&[1.0])], &[0], LONG, LONG);
    assert_eq!(fault, Err(RunnerFault::Crashed("SIGXCPU".into())));
}
