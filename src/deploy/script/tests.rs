//! The scripts, run by a real shell.

use super::folders::Left;
use super::*;
use crate::deploy::said::refusal::Refusal;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn plain(text: &str) -> Hook<'_> {
    Hook {
        text,
        stops: false,
        login_shell: false,
    }
}

fn sh(script: &str, input: &[u8]) -> Output {
    let mut child = Command::new("sh")
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

/// The last line of a script's errors, in English.
#[track_caller]
fn refusal(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().last().unwrap_or_default();
    let refusal = Refusal::read(last);
    refusal.unwrap_or_else(|| panic!("{output:?}")).to_string()
}

/// Makes a release as it is after its arrival.
fn place(base: &Path, id: i64) {
    let folder = base.join("releases").join(id.to_string());
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("index.html"), id.to_string()).unwrap();
    fs::create_dir(base.join("releases").join(format!(".{id}"))).unwrap();
}

/// The names in `releases`.
fn left(base: &Path) -> Vec<String> {
    let mut left: Vec<_> = fs::read_dir(base.join("releases"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != ".before")
        .collect();
    left.sort();
    left
}

/// An owner that also has the releases without owner up to this one.
fn owner_of_all(unmarked_through: i64) -> Owner {
    let installation = crate::store::installation::Installation {
        name: "0123456789abcdef".to_owned(),
        unmarked_through: ReleaseId(unmarked_through),
    };
    Owner::of(&installation, crate::store::ProjectId(1))
}

fn prune_of(base: &Path, count: i32, whole: &[i64], failed: &[i64], unmarked: i64) -> String {
    let sent = |id: i64, is_whole| Sent {
        release: ReleaseId(id),
        is_whole,
    };
    let whole = whole.iter().map(|&id| sent(id, true));
    let failed = failed.iter().map(|&id| sent(id, false));
    let sent: Vec<Sent> = whole.chain(failed).collect();
    let keep = Keep {
        count,
        sent: &sent,
        owner: &owner_of_all(unmarked),
    };
    prune(base.to_str().unwrap(), &keep)
}

fn switch_to(base: &Path, id: i64) -> Output {
    sh(&switch(base.to_str().unwrap(), ReleaseId(id)), b"")
}

#[test]
fn a_release_arrives_is_switched_to_and_old_ones_go() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("it's/a shop");
    for id in [8, 9, 10, 11] {
        place(&base, id);
        assert!(switch_to(&base, id).status.success());
        assert_eq!(
            fs::read_to_string(base.join("current/index.html")).unwrap(),
            id.to_string()
        );
    }
    fs::create_dir(base.join("releases/7.part")).unwrap();
    fs::create_dir(base.join("releases/notes")).unwrap();
    assert!(switch_to(&base, 8).status.success());
    let output = sh(&prune_of(&base, 2, &[10, 9], &[11, 8, 7], 99), b"");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(left(&base), [".10", ".8", "10", "8", "notes"]);
}

#[test]
fn what_is_in_the_way_is_named_and_stays() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path();
    fs::create_dir_all(base.join("current")).unwrap();
    fs::create_dir_all(base.join("releases/1")).unwrap();
    let output = switch_to(base, 1);
    assert_eq!(output.status.code(), Some(REFUSED));
    assert!(refusal(&output).contains("not a link"));
    let output = switch_to(base, 2);
    assert_eq!(refusal(&output), "release 2 is not on this server any more");
}

#[test]
fn every_word_that_a_script_refuses_with_is_known() {
    let source = include_str!("../script.rs");
    let words: Vec<&str> = source
        .match_indices("refuse ")
        .map(|(at, opening)| &source[at + opening.len()..])
        .filter_map(|rest| rest.split([' ', '\n']).next())
        .filter(|word| word.contains('_'))
        .collect();
    assert!(words.len() > 5, "{words:?}");
    for word in words {
        let line = format!("{MARK}\t{word}\ta\tb\tc");
        assert!(Refusal::read(&line).is_some(), "{word}");
    }
}

#[test]
fn a_detail_stays_one_detail() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("it's\ta\nshop");
    fs::create_dir_all(base.join("releases/1")).unwrap();
    fs::create_dir_all(base.join("current")).unwrap();
    let said = refusal(&switch_to(&base, 1));
    assert!(said.contains("it's a shop/current is there"), "{said}");
}

#[test]
fn a_command_runs_in_its_folder_with_its_variables() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("current")).unwrap();
    let script = command(
        folder.path().to_str().unwrap(),
        "current",
        &[("LONGSHORE_RELEASE", "it's 7".into())],
        plain("pwd; echo \"$LONGSHORE_RELEASE\"; exit 3"),
    );
    let output = sh(&script, b"");
    assert_eq!(output.status.code(), Some(3));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.ends_with("/current\nit's 7\n"), "{text}");
}

/// Runs a health check by each shell that servers have. Returns exit codes and output.
fn check(text: &str, seconds: i32) -> Vec<(Option<i32>, String)> {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().to_str().unwrap();
    [&["sh"][..], &["busybox", "sh"], &["bash", "--posix"]]
        .iter()
        .map(|shell| {
            let _ = fs::remove_dir_all(folder.path().join("current"));
            fs::create_dir(folder.path().join("current")).unwrap();
            let script = health(base, &[], plain(text), Times::within(seconds));
            let output = Command::new(shell[0])
                .args(&shell[1..])
                .args(["-c", &script])
                .output()
                .unwrap();
            let said = String::from_utf8(output.stdout).unwrap();
            (output.status.code(), said)
        })
        .collect()
}

#[test]
fn a_health_check_holds_once_it_has_passed_for_the_steady_time() {
    for (code, said) in check("echo well", 3) {
        assert_eq!(code, Some(0), "{said}");
        let ends: Vec<&str> = said
            .lines()
            .filter(|line| line.starts_with("long"))
            .collect();
        let held = [0, 1, 2].map(|held| format!("{}\t0\t{held}", health::MARK));
        assert_eq!(ends, held, "{said}");
    }
}

#[test]
fn a_health_check_that_passes_at_first_and_then_fails_does_not_hold() {
    let dies = "echo x >> tries; [ $(wc -l < tries) -lt 3 ] || { printf gone; exit 4; }";
    for (code, said) in check(dies, 4) {
        assert_eq!(code, Some(1), "{said}");
        let last = said.trim_end().lines().last().unwrap();
        assert_eq!(last, format!("{}\t4\t-1", health::MARK), "{said}");
        assert!(
            said.contains("gone\n"),
            "the end has a line of its own: {said}"
        );
    }
}

#[test]
fn a_try_that_hangs_is_ended_with_all_that_it_started() {
    let begun = std::time::Instant::now();
    for (code, said) in check("sleep 4711 & echo $!; wait", 2) {
        assert_eq!(code, Some(1), "{said}");
        let (pid, end) = said.split_once('\n').unwrap();
        assert!(
            end.contains(&format!("{}\t{}\t-1", health::MARK, health::LATE)),
            "{said}"
        );
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
        assert!(
            stat.is_err() || stat.unwrap().contains(") Z "),
            "{pid} lives on"
        );
    }
    assert!(begun.elapsed().as_secs() < 60);
}

#[test]
fn what_was_live_is_told_and_found_again_whatever_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("a shop");
    place(&base, 1);
    place(&base, 2);
    fs::create_dir_all(base.join("releases/20240401000000")).unwrap();
    fs::create_dir_all(folder.path().join("elsewhere\n/v1")).unwrap();
    let absolute = |name: &str| base.join("releases").join(name).display().to_string();
    for (target, named) in [
        ("releases/1".to_owned(), Some(1)),
        ("./releases/1/".to_owned(), Some(1)),
        (absolute("1"), Some(1)),
        (absolute("20240401000000"), Some(20_240_401_000_000)),
        ("../elsewhere\n/v1".to_owned(), None),
    ] {
        let _ = fs::remove_file(base.join("current"));
        std::os::unix::fs::symlink(&target, base.join("current")).unwrap();
        let output = switch_to(&base, 2);
        assert!(output.status.success(), "{output:?}");
        let told = String::from_utf8(output.stdout).unwrap();
        let before = told.lines().find_map(Before::read).unwrap().unwrap();
        assert_eq!(before.named, named.map(ReleaseId), "{told}");
        let output = sh(&switch_back(base.to_str().unwrap(), ReleaseId(2)), b"");
        assert!(output.status.success(), "{output:?}");
        let back = fs::read_link(base.join("current")).unwrap();
        assert_eq!(back.to_str(), Some(&*target));
    }
    for nothing in [None, Some("releases/gone")] {
        let _ = fs::remove_file(base.join("current"));
        if let Some(target) = nothing {
            std::os::unix::fs::symlink(target, base.join("current")).unwrap();
        }
        let told = String::from_utf8(switch_to(&base, 2).stdout).unwrap();
        assert_eq!(told.lines().find_map(Before::read), Some(None), "{told}");
    }
    assert_eq!(Before::read("now: releases/12"), None);
}

/// Releases of another tool, and those of an installation whose ids began anew.
#[test]
fn what_is_not_ours_is_neither_counted_nor_removed() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path();
    for id in [1, 2, 3, 4, 44, 20_240_401_000_000] {
        place(base, id);
    }
    let foreign = base.join("releases/.2/owner");
    fs::write(foreign, "another/1\n").unwrap();
    for id in [1, 3, 4] {
        let owner = base.join(format!("releases/.{id}/owner"));
        fs::write(owner, owner_of_all(0).line()).unwrap();
    }
    switch_to(base, 4);
    let output = sh(&prune_of(base, 2, &[4, 3, 2, 1], &[], 0), b"");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        left(base),
        [
            ".2",
            ".20240401000000",
            ".3",
            ".4",
            ".44",
            "2",
            "20240401000000",
            "3",
            "4",
            "44"
        ]
    );
}

/// A folder in use is reported, and the others are removed nevertheless.
#[test]
fn one_that_cannot_be_removed_is_told_and_the_next_one_goes() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path();
    for id in 1..=4 {
        place(base, id);
    }
    let data = base.join("data");
    let volume = base.join("releases/2/volume");
    for made in [&data, &volume] {
        fs::create_dir(made).unwrap();
    }
    fs::write(data.join("kept"), "").unwrap();
    let mounted = Command::new("mount")
        .arg("--bind")
        .args([&data, &volume])
        .status();
    if !mounted.unwrap().success() {
        eprintln!("not tested: nothing can be mounted here");
        return;
    }
    switch_to(base, 4);
    let prune = prune_of(base, 1, &[4, 3, 2, 1], &[], 9);
    let output = sh(&prune, b"");
    let kept = data.join("kept").exists();
    assert!(
        Command::new("umount")
            .arg(&volume)
            .status()
            .unwrap()
            .success()
    );
    let said = String::from_utf8(output.stdout).unwrap();
    let told: Vec<Left> = said.lines().filter_map(Left::read).collect();
    assert_eq!(told.len(), 1, "{said}");
    assert_eq!((&*told[0].name, kept), ("2", true), "{said}");
    assert_eq!(left(base), [".2", ".4", "2", "4"]);
    assert!(sh(&prune, b"").status.success());
    assert_eq!(left(base), [".4", "4"]);
}

#[test]
fn roots_and_paths_are_joined_without_doubled_slashes() {
    assert_eq!(base("/", "/srv/shop/"), "/srv/shop");
    assert_eq!(base("/home/demo/", "srv/shop"), "/home/demo/srv/shop");
}
