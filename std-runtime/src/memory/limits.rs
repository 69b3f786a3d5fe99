//! The memory available to a process: the machine's, and the limits of the process. Linux provides them in files; elsewhere nothing is known.

use std::path::Path;

/// Available bytes of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Bytes.
    pub bytes: u64,
    /// The resource, as text.
    pub of: &'static str,
}

/// The memory available to a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// In all: the machine's memory, or the limit of its control group.
    pub whole: Option<Bound>,
    /// By the limits of the process itself, which count what is allocated and not what is used.
    pub left: Option<Bound>,
    /// Currently free.
    pub free: Option<Bound>,
    /// Bytes of memory that the process has now, beside files that it maps.
    pub resident_bytes: u64,
}

const MACHINE: &str = "this machine's memory";
const GROUP: &str = "the memory of its control group (the limit of a container or a job)";
const ADDRESSES: &str = "its address space (ulimit -v)";
const DATA: &str = "its data segment (ulimit -d)";

impl Limits {
    /// Those of this process now.
    pub fn now() -> Self {
        Self::read(&|path| std::fs::read_to_string(path).ok())
    }

    /// The same from the texts of files by their paths.
    fn read(file: &dyn Fn(&str) -> Option<String>) -> Self {
        let machine = file("/proc/meminfo").unwrap_or_default();
        let of_machine = |key: &str| Some(Bound { bytes: field(&machine, key)?.checked_mul(1024)?, of: MACHINE });
        let (group, group_free) = group(file).unzip();
        Self {
            whole: least([of_machine("MemTotal:"), group]),
            left: of_process(file),
            free: least([of_machine("MemAvailable:"), group_free]),
            resident_bytes: file("/proc/self/status")
                .and_then(|status| field(&status, "RssAnon:"))
                .unwrap_or(0)
                .saturating_mul(1024),
        }
    }
}

fn least(bounds: impl IntoIterator<Item = Option<Bound>>) -> Option<Bound> {
    bounds.into_iter().flatten().min_by_key(|bound| bound.bytes)
}

/// The number after a key at the beginning of a line.
fn field(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key))?.split_whitespace().next()?.parse().ok()
}

/// What the process's own limits leave.
fn of_process(file: &dyn Fn(&str) -> Option<String>) -> Option<Bound> {
    let (limits, status) = (file("/proc/self/limits")?, file("/proc/self/status")?);
    let left = |limit: &str, used: &str, of| {
        let used = field(&status, used)?.checked_mul(1024)?;
        Some(Bound { bytes: field(&limits, limit)?.saturating_sub(used), of })
    };
    // "unlimited" is not a number.
    least([left("Max address space", "VmSize:", ADDRESSES), left("Max data size", "VmData:", DATA)])
}

/// Limits of this size mean unlimited: control groups v1 report the largest number of pages.
const NO_LIMIT: u64 = 1 << 60;

/// The tightest limit of the process's control groups, v1 or v2, and what is free of it.
fn group(file: &dyn Fn(&str) -> Option<String>) -> Option<(Bound, Bound)> {
    let groups = file("/proc/self/cgroup")?;
    let mut found: Option<(u64, u64)> = None;
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else { continue };
        let (root, [limit, used, stat]) = match controllers {
            "" => ("/sys/fs/cgroup", ["memory.max", "memory.current", "inactive_file "]),
            _ if controllers.split(',').any(|name| name == "memory") => {
                ("/sys/fs/cgroup/memory", ["memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file "])
            }
            _ => continue,
        };
        // A group is also bound by its parents. In a container the path may be the host's, and only the root exists.
        for folder in Path::new(path).ancestors() {
            let at = |name: &str| file(&format!("{root}{}/{name}", folder.to_str()?.trim_end_matches('/')));
            let number = |name: &str| at(name)?.trim().parse::<u64>().ok();
            let Some(limit) = number(limit).filter(|&limit| limit < NO_LIMIT) else { continue };
            // Inactive page cache is reclaimed on allocation.
            let idle = at("memory.stat").and_then(|text| field(&text, stat)).unwrap_or(0);
            let free = limit.saturating_sub(number(used).unwrap_or(0).saturating_sub(idle));
            if found.is_none_or(|(least, _)| limit < least) {
                found = Some((limit, free));
            }
        }
    }
    found.map(|(limit, free)| (Bound { bytes: limit, of: GROUP }, Bound { bytes: free, of: GROUP }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(files: &[(&str, &str)]) -> Limits {
        Limits::read(&|path| files.iter().find(|(name, _)| *name == path).map(|(_, text)| (*text).to_owned()))
    }

    const MEMORY: (&str, &str) = ("/proc/meminfo", "MemTotal:       1000 kB\nMemFree:  1 kB\nMemAvailable:    600 kB\n");

    #[test]
    fn a_machine_without_limits() {
        let unlimited = ("/proc/self/limits", "Max address space         unlimited            unlimited            bytes\n");
        let found = limits(&[MEMORY, unlimited, ("/proc/self/status", "VmSize:\t 100 kB\n"), ("/proc/self/cgroup", "0::/\n")]);
        let machine = |kib: u64| Some(Bound { bytes: kib << 10, of: MACHINE });
        assert_eq!(found, Limits { whole: machine(1000), left: None, free: machine(600), resident_bytes: 0 });
        assert_eq!(limits(&[]), Limits::default());
    }

    #[test]
    fn limits_of_a_process_count_what_it_has() {
        let limited = "Max data size             unlimited            unlimited            bytes\n\
                       Max address space         614400000            unlimited            bytes\n";
        let status = "VmSize:\t  100000 kB\nVmData:\t 50 kB\nRssAnon:\t 40 kB\n";
        let found = limits(&[("/proc/self/limits", limited), ("/proc/self/status", status)]);
        assert_eq!(found.left, Some(Bound { bytes: 614_400_000 - 102_400_000, of: ADDRESSES }));
        assert_eq!(found.resident_bytes, 40 << 10);
    }

    #[test]
    fn control_groups_of_both_versions_and_those_above_them() {
        let group = |bytes| Some(Bound { bytes, of: GROUP });
        let found = limits(&[
            MEMORY,
            ("/proc/self/cgroup", "0::/a/b\n"),
            ("/sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("/sys/fs/cgroup/a/memory.max", "500000\n"),
            ("/sys/fs/cgroup/a/memory.current", "300000\n"),
            ("/sys/fs/cgroup/a/memory.stat", "anon 7\ninactive_file 100000\n"),
        ]);
        assert_eq!((found.whole, found.free), (group(500_000), group(300_000)));
        let found = limits(&[
            ("/proc/self/cgroup", "5:cpu:/\n4:memory:/docker/x\n"),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "400000\n"),
            ("/sys/fs/cgroup/memory/memory.usage_in_bytes", "100000\n"),
        ]);
        assert_eq!((found.whole, found.free), (group(400_000), group(300_000)));
        let none = limits(&[
            ("/proc/self/cgroup", "4:memory:/\n"),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ]);
        assert_eq!(none.whole, None);
    }
}
