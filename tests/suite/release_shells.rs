//! Releases to accounts as they are found in the world: every login shell, and what its start-up files
//! print, read and do. Only root can make such accounts.

use serde_json::{Value, json};

use crate::fixture::{Account, Fleet, Longshore, Sshd, until_true};

const NOISE: &str = "printf 'one\\ntwo'; printf '\\033]0;title\\007' >&2; echo three >&2\n";

/// A fleet with one server for each account, all on one machine.
struct Accounts {
    fleet: Fleet,
    accounts: Vec<Account>,
    servers: Vec<String>,
    _sshd: Sshd,
}

impl Accounts {
    /// `None` unless run as root.
    fn of(accounts: &[(&str, &str, &str, &str)]) -> Option<Self> {
        let create = |(name, shell, file, text): &(&str, &str, &str, &str)| {
            let file = if file.is_empty() { ".none" } else { file };
            Account::create(name, shell, &[(file, text)])
        };
        let accounts: Vec<Account> = accounts.iter().map(create).collect::<Option<_>>()?;
        let settings = Longshore::settings().set("ssh_connect_seconds", "8");
        let fleet = Fleet::with(0, settings);
        let sshd = Sshd::with("accounts", "AuthorizedKeysFile .ssh/authorized_keys");
        let register = |account: &Account| {
            let key = fleet.api.create(
                "credentials",
                &json!({"name": account.name, "kind": "ssh_key", "secret": account.private_key()}),
            );
            let id = fleet.api.create(
                "servers",
                &json!({
                    "hostname": account.name, "host": "127.0.0.1", "port": sshd.port, "user": account.name,
                    "kind": "ssh", "credential_id": key, "root": account.path(),
                }),
            );
            let accepted = json!({"fingerprint": sshd.fingerprint()});
            let answer = fleet.api.post(&format!("servers/{id}/host_key"), &accepted);
            assert!((200..300).contains(&answer.status), "{}", answer.text);
            id
        };
        let servers = accounts.iter().map(register).collect();
        Some(Self {
            fleet,
            accounts,
            servers,
            _sshd: sshd,
        })
    }

    fn project(&self, fields: Value) -> String {
        let mut all = json!({"server_ids": self.servers});
        let object = all.as_object_mut().unwrap();
        object.extend(fields.as_object().unwrap().clone());
        self.fleet.project(all)
    }
}

#[test]
fn every_login_shell_takes_releases_whatever_it_prints_or_reads() {
    let Some(accounts) = Accounts::of(&[
        ("tc", "tcsh", ".cshrc", "printf 'one\\ntwo'\nset x = $<\n"),
        ("fi", "fish", ".config/fish/config.fish", NOISE),
        ("zs", "zsh", ".zshenv", NOISE),
        ("ks", "ksh", "", ""),
        ("da", "dash", "", ""),
        ("ba", "bash", ".bashrc", NOISE),
        (
            "br",
            "bash",
            ".bashrc",
            "read x; read -n 1 y; printf 'two'\n",
        ),
        ("rb", "rbash", "", ""),
        ("as", "ash", "", ""),
    ]) else {
        return;
    };
    let fleet = &accounts.fleet;
    let hook = "x='a\\\\b' y=\"it's\"\nif [ \"$x\" = 'a\\\\b' ]; then\n  echo \"$y `pwd`\" >hook.txt\nfi\n";
    let project = accounts.project(json!({
        "before_deploy": hook, "restart": "echo \"restart's\"", "health": "test -f index.html",
        "health_seconds": 3, "after_deploy": "cat; read x || grep -q \"it's\" hook.txt",
    }));
    for revision in ["v1", "main", "v1"] {
        let id = fleet.succeed(&project, revision);
        for (server, account) in accounts.servers.iter().zip(&accounts.accounts) {
            let current = account.path().join("srv/app/current");
            assert_eq!(
                current.read_link().unwrap().file_name().unwrap(),
                id.as_str()
            );
            let restart = fleet.node_log(&id, &format!("restart-{server}"));
            assert!(restart.contains("restart's"), "{}: {restart}", account.name);
            let noisy =
                account.path().join(".bashrc").exists() || account.path().join(".zshenv").exists();
            assert!(!noisy || restart.contains("login: two"), "{restart}");
        }
    }
    for server in &accounts.servers {
        let check = fleet
            .api
            .post(&format!("servers/{server}/check"), &json!({}));
        let check = check.expect(200);
        assert_eq!(check["ok"], true, "{check}");
        assert_eq!(check["found"]["shell"], true, "{check}");
        let command = json!({"command": "printf '%s\\n' \"it's\"; cat; exit 3", "stdin": "fed"});
        let done = fleet.api.post(&format!("servers/{server}/exec"), &command);
        let done = done.expect(200);
        assert_eq!(done["exit_code"], 3, "{done}");
        assert_eq!(done["stdout"], "it's\nfed\n", "{done}");
        assert_eq!(done["stderr"], "", "{done}");
    }
}

#[test]
fn a_server_goes_back_whatever_its_login_prints() {
    let Some(accounts) = Accounts::of(&[("go", "bash", ".bashrc", "printf hello\n")]) else {
        return;
    };
    let fleet = &accounts.fleet;
    let project =
        accounts.project(json!({"health": "grep -q one index.html", "health_seconds": 2}));
    let good = fleet.succeed(&project, "v1");
    let release = fleet.release(&project, "main");
    assert_eq!(release["state"], "failed", "{release}");
    let current = accounts.accounts[0].path().join("srv/app/current");
    assert_eq!(
        current.read_link().unwrap().file_name().unwrap(),
        good.as_str()
    );
}

#[test]
fn a_login_that_hangs_or_ends_is_the_reason_and_holds_nobody_up() {
    let Some(accounts) = Accounts::of(&[
        ("ok", "bash", "", ""),
        (
            "hg",
            "bash",
            ".bashrc",
            "echo waiting for you; sleep 1000\n",
        ),
        ("ex", "bash", ".bashrc", "echo closed for today; exit 0\n"),
        ("nl", "/usr/sbin/nologin", "", ""),
    ]) else {
        return;
    };
    let fleet = &accounts.fleet;
    let project = accounts.project(json!({}));
    let begun = std::time::Instant::now();
    let release = fleet.release(&project, "v1");
    assert!(begun.elapsed().as_secs() < 120);
    assert_eq!(release["state"], "partial", "{release}");
    let id = release["id"].as_str().unwrap();
    let tree = fleet.tree(id);
    for (server, reason) in
        accounts
            .servers
            .iter()
            .zip(["", "waiting for you", "closed for today", "not available"])
    {
        let key = format!("upload-{server}");
        let node = tree.iter().find(|row| row["key"] == key).unwrap();
        let state = if reason.is_empty() {
            "succeeded"
        } else {
            "failed"
        };
        assert_eq!(node["state"], state, "{node}");
        let message = node["message"].as_str().unwrap_or_default().to_owned();
        assert!(message.contains(reason), "{message}");
        let check = fleet
            .api
            .post(&format!("servers/{server}/check"), &json!({}));
        let check = check.expect(200);
        assert_eq!(check["ok"], reason.is_empty(), "{check}");
        assert!(
            check["message"].as_str().unwrap().contains(reason),
            "{check}"
        );
    }
}

#[test]
fn a_login_shell_brings_its_environment_to_the_commands_where_the_project_says_so() {
    let Some(accounts) = Accounts::of(&[
        (
            "lb",
            "bash",
            ".bashrc",
            "case $- in *i*) ;; *) return ;; esac\nexport NODE=20\n",
        ),
        ("lz", "zsh", ".zshrc", "export NODE=20\n"),
        ("lf", "fish", ".config/fish/config.fish", "set -x NODE 20\n"),
    ]) else {
        return;
    };
    let bash = accounts.accounts[0].path().join(".bash_profile");
    std::fs::write(bash, ". ~/.bashrc\n").unwrap();
    let fleet = &accounts.fleet;
    let check = "[ \"$NODE\" = 20 ]";
    let project = accounts.project(json!({
        "before_deploy": check, "restart": check, "health": check, "health_seconds": 3,
        "after_deploy": "#!/usr/bin/perl\nexit($ENV{NODE} == 20 ? 0 : 1);", "login_shell": true,
    }));
    fleet.succeed(&project, "v1");
    let plain = json!({"login_shell": false});
    fleet
        .api
        .put(&format!("projects/{project}"), &plain)
        .expect(200);
    // Fish reads its file in any case.
    assert_eq!(fleet.release(&project, "main")["state"], "partial");
}

#[test]
fn a_login_that_hangs_leaves_nothing_behind_that_ssh_can_end() {
    let Some(accounts) = Accounts::of(&[
        ("ct", "bash", ".bashrc", "echo reading; cat >/dev/null\n"),
        ("sl", "bash", ".bashrc", "echo sleeping; sleep 1000\n"),
    ]) else {
        return;
    };
    let fleet = &accounts.fleet;
    for server in &accounts.servers {
        let check = fleet
            .api
            .post(&format!("servers/{server}/check"), &json!({}))
            .expect(200);
        assert_eq!(check["ok"], false, "{check}");
        let command = json!({"command": "true", "seconds": 5});
        let path = format!("servers/{server}/exec");
        assert!(fleet.api.post(&path, &command).status >= 400);
    }
    let release = fleet.release(&accounts.project(json!({})), "v1");
    assert_eq!(release["state"], "failed", "{release}");
    // The end of its input ends what reads it.
    until_true("the reading login's end", || {
        accounts.accounts[0].processes().is_empty()
    });
    // SSH ends its own; for the rest the login would have to look.
    until_true("the connections' end", || {
        let left = accounts.accounts[1].processes();
        left.iter().all(|line| !line.contains("sshd"))
    });
    let pid = fleet.longshore.pid();
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    assert_eq!(children.trim(), "");
}
