use super::*;

/// A machine of files.
fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

const GROUP: &str = "sys/fs/cgroup/kubepods/pod7/gateway";

#[test]
fn the_tightest_limit_of_the_second_kind_on_the_way_up_counts() {
    let path = |folder: &str, name: &str| format!("{folder}/{name}");
    let pod = "sys/fs/cgroup/kubepods/pod7";
    let files = [
        ("proc/self/cgroup".to_owned(), "0::/kubepods/pod7/gateway\n"),
        (path(GROUP, "cpu.max"), "max 100000\n"),
        (path(pod, "cpu.max"), "150000 100000\n"),
        (path(GROUP, "memory.max"), "536870912\n"),
        (path(pod, "memory.max"), "max\n"),
        (
            path(GROUP, "cpu.stat"),
            "usage_usec 9\nnr_periods 10\nnr_throttled 3\nthrottled_usec 7\n",
        ),
        (path(pod, "cpu.stat"), "nr_periods 10\nnr_throttled 4\n"),
    ];
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), *text)).collect();
    let root = machine(&files);
    let container = Container::find(root.path());
    let expected = Limits {
        cpus: Some(1.5),
        memory_bytes: Some(512 << 20),
    };
    assert_eq!(container.limits(), expected);
    assert_eq!(container.throttled(), Some(7));
}

#[test]
fn inside_a_container_its_group_stands_at_the_root() {
    let root = machine(&[
        ("proc/self/cgroup", "0::/\n"),
        ("sys/fs/cgroup/cpu.max", "50000 100000\n"),
        ("sys/fs/cgroup/memory.max", "1073741824\n"),
        ("sys/fs/cgroup/cpu.stat", "nr_throttled 0\n"),
    ]);
    let container = Container::find(root.path());
    assert_eq!((container.limits().cpus, container.throttled()), (Some(0.5), Some(0)));
    assert_eq!(container.limits().memory_bytes, Some(1 << 30));
}

#[test]
fn the_first_kind_has_a_tree_per_controller_also_where_two_share_one() {
    let text = "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n1:name=systemd:/\n0::/\n";
    let root = machine(&[
        ("proc/self/cgroup", text),
        // The container sees its own group as the root of each tree.
        ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "200000\n"),
        ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
        (
            "sys/fs/cgroup/cpu,cpuacct/cpu.stat",
            "nr_periods 1\nnr_throttled 1\nthrottled_time 5\n",
        ),
        ("sys/fs/cgroup/memory/memory.limit_in_bytes", "268435456\n"),
    ]);
    let container = Container::find(root.path());
    let expected = Limits {
        cpus: Some(2.0),
        memory_bytes: Some(256 << 20),
    };
    assert_eq!((container.limits(), container.throttled()), (expected, Some(1)));
}

#[test]
fn what_is_not_there_or_not_limited_is_no_limit() {
    assert_eq!(Container::find(machine(&[]).path()).limits(), Limits::default());
    let root = machine(&[
        ("proc/self/cgroup", "4:memory:/\n1:cpu:/\nnonsense\n"),
        ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"),
        ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
        ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ("proc/meminfo", "MemTotal:       24000000 kB\nMemFree: 1 kB\n"),
    ]);
    let container = Container::find(root.path());
    assert_eq!((container.limits(), container.throttled()), (Limits::default(), None));
    assert_eq!(machine_memory(root.path()), Some(24_000_000 * 1_024));
}

#[test]
fn texts_that_make_no_sense_are_no_limits() {
    for text in ["", "max", "max 100000", "1", "1 0", "-5 100000", "x y"] {
        assert_eq!(parse::cpu_max(text), None, "{text}");
    }
    for text in ["", "max", "-1", "99999999999999999999"] {
        assert_eq!(parse::memory(text), None, "{text}");
    }
    assert_eq!(parse::throttled("nr_periods 4\n"), None);
}
