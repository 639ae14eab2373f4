//! Permanent restrictions of a command: capabilities, system calls, files and sockets of others.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetStatus, Scope, path_beneath_rules,
};
use nix::libc;
use rustix::thread::CapabilitySet;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

use super::mounts::{DEVICES, SYSTEM};
use super::{Isolation, Order};

/// The newest Landlock version used; older kernels apply what they have.
const LANDLOCK: ABI = ABI::V6;
/// System calls that no build needs: the kernel's keyrings, which namespaces do not separate, and
/// access to the machine itself.
const REFUSED_CALLS: [libc::c_long; 14] = [
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_open_by_handle_at,
    libc::SYS_kexec_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
];

/// Applies the last restrictions, which cannot be undone.
pub(super) fn apply(order: &Order) -> io::Result<()> {
    if order.isolation == Isolation::Supervised {
        return Ok(());
    }
    rustix::thread::set_no_new_privs(true)?;
    let is_enforced = restrict_files_and_sockets(order).map_err(io::Error::other)?;
    if order.isolation == Isolation::Landlock && !is_enforced {
        return Err(io::Error::other("the kernel has no Landlock"));
    }
    refuse_calls()
}

/// Drops every capability for the program that is executed next.
pub(super) fn drop_capabilities() -> io::Result<()> {
    for capability in CapabilitySet::all().iter() {
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            // A capability that this kernel does not know cannot be dropped.
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::PERM) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Confines sockets and signals to the sandbox, and files too if it has no file system of its own. True
/// if the kernel enforces it.
fn restrict_files_and_sockets(order: &Order) -> Result<bool, landlock::RulesetError> {
    let rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .scope(Scope::from_all(LANDLOCK))?;
    let status = if order.isolation == Isolation::Landlock {
        let (all, read) = (AccessFs::from_all(LANDLOCK), AccessFs::from_read(LANDLOCK));
        let folders = [&order.tree, &order.cache, &order.temporary];
        let devices = DEVICES.iter().chain(&["ptmx", "pts", "shm"]);
        let devices = devices.map(|name| Path::new("/dev").join(name));
        rules
            .handle_access(all)?
            .create()?
            .add_rules(path_beneath_rules(readable(order), read))?
            .add_rules(path_beneath_rules(devices, all))?
            .add_rules(path_beneath_rules(&order.writable, all))?
            .add_rules(path_beneath_rules(folders, all))?
            .restrict_self()?
    } else {
        rules.create()?.restrict_self()?
    };
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}

/// Every system path that contains nothing hidden.
fn readable(order: &Order) -> Vec<PathBuf> {
    let mut shown = vec![PathBuf::from("/proc")];
    for top in SYSTEM {
        let path = Path::new("/").join(top);
        around(&path, &order.hidden, &mut shown);
    }
    shown.extend(order.readable.iter().cloned());
    shown
}

/// Collects `path`, or as much of its contents as contains nothing hidden.
fn around(path: &Path, hidden: &[PathBuf], shown: &mut Vec<PathBuf>) {
    if hidden.iter().any(|hidden| path.starts_with(hidden)) {
        return;
    }
    if !hidden.iter().any(|hidden| hidden.starts_with(path)) {
        shown.push(path.to_owned());
        return;
    }
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        around(&entry.path(), hidden, shown);
    }
}

fn refuse_calls() -> io::Result<()> {
    // If the filter library does not know the processor, the other restrictions stand alone.
    let Ok(processor) = TargetArch::try_from(std::env::consts::ARCH) else {
        return Ok(());
    };
    let rules: BTreeMap<i64, Vec<_>> = REFUSED_CALLS.map(|call| (call, Vec::new())).into();
    let refusal = SeccompAction::Errno(rustix::io::Errno::PERM.raw_os_error().unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refusal, processor)
        .map_err(io::Error::other)?;
    let program: BpfProgram = filter.try_into().map_err(io::Error::other)?;
    seccompiler::apply_filter(&program).map_err(io::Error::other)
}
