use super::*;
use crate::store::Moment;
use proptest::prelude::*;

fn server(id: i64, kind: ServerKind, host: &str) -> Server {
    Server {
        id: ServerId(id),
        hostname: format!("server-{id}"),
        host: host.into(),
        port: 22,
        user: "deploy".into(),
        kind,
        credential_id: None,
        root: "/".into(),
        host_key: None,
        created_at: Moment(0),
        updated_at: Moment(0),
        jump_id: None,
        connect_seconds: None,
        idle_seconds: None,
        proxy: None,
        proxy_command: None,
    }
}

fn ssh(host: &str) -> Server {
    server(1, ServerKind::Ssh, host)
}

fn here() -> Server {
    server(2, ServerKind::Local, "127.0.0.1")
}

fn placed(project: i64, path: &str, server: &Server, real: Option<&str>) -> Placement {
    let title = format!("project-{project}");
    Placement::new((ProjectId(project), &title), path, server, real)
}

fn found(new: &Placement, other: &Placement, resolved: &Resolved) -> Option<Clash> {
    let (new, other) = (std::slice::from_ref(new), std::slice::from_ref(other));
    clashes(new, other, resolved, Path::new("/var/lib/longshore")).next()
}

fn relation(one: (&str, &Server), other: (&str, &Server)) -> Option<Relation> {
    let unknown = Resolved::default();
    let (one, other) = (
        placed(1, one.0, one.1, None),
        placed(2, other.0, other.1, None),
    );
    let (there, back) = (found(&one, &other, &unknown), found(&other, &one, &unknown));
    assert_eq!(
        there.as_ref().map(|it| it.relation),
        back.map(|it| it.relation)
    );
    there.map(|clash| clash.relation)
}

#[test]
fn folders_inside_each_other_clash_either_way_round() {
    let web = ssh("web.example");
    for inner in ["/a/releases/1", "/a/current/sub", "/a/b"] {
        let clash = relation(("/a", &web), (inner, &web));
        assert_eq!(clash, Some(Relation::Overlapping), "{inner}");
    }
    assert_eq!(relation(("/a", &web), ("/a", &web)), Some(Relation::Same));
    assert_eq!(relation(("/a", &web), ("/ab", &web)), None);
    assert_eq!(relation(("/a/b", &web), ("/a/c", &web)), None);
    let rooted = Server {
        root: "/a/".into(),
        ..ssh("web.example")
    };
    let clash = relation(("/a", &web), ("/b", &rooted));
    assert_eq!(clash, Some(Relation::Overlapping));
    assert_eq!(relation(("/b", &web), ("/b", &rooted)), None);
}

#[test]
fn one_machine_has_many_spellings() {
    for (one, other) in [
        ("web.example", "WEB.Example."),
        ("::1", "[::1]"),
        ("::1", "0:0:0:0:0:0:0:1"),
        ("192.0.2.1", "::ffff:192.0.2.1"),
    ] {
        let clash = relation(("/a", &ssh(one)), ("/a/b", &ssh(other)));
        assert!(clash.is_some(), "{one} {other}");
    }
    for loopback in [
        "localhost",
        "LOCALHOST.",
        "app.localhost",
        "127.0.0.9",
        "::1",
        "0.0.0.0",
    ] {
        let clash = relation(("/a", &here()), ("/a/b", &ssh(loopback)));
        assert!(clash.is_some(), "{loopback}");
    }
    assert_eq!(relation(("/a", &here()), ("/a", &ssh("192.0.2.1"))), None);
    let other_port = Server {
        port: 2222,
        ..ssh("web.example")
    };
    assert_eq!(
        relation(("/a", &ssh("web.example")), ("/a", &other_port)),
        None
    );
}

#[test]
fn behind_a_way_of_its_own_a_host_is_another_machine() {
    let direct = ssh("10.0.0.1");
    let ways = [
        Server {
            jump_id: Some(ServerId(7)),
            ..direct.clone()
        },
        Server {
            proxy: Some("http://gate".into()),
            ..direct.clone()
        },
        Server {
            proxy_command: Some(Words(vec!["nc".into()])),
            ..direct.clone()
        },
    ];
    for (index, way) in ways.iter().enumerate() {
        assert_eq!(relation(("/a", &direct), ("/a/b", way)), None);
        let again = Server {
            host: "10.0.0.1".into(),
            hostname: "again".into(),
            ..way.clone()
        };
        assert!(relation(("/a", way), ("/a/b", &again)).is_some());
        for other in &ways[index + 1..] {
            assert_eq!(relation(("/a", other), ("/a/b", way)), None);
        }
        // A name behind a jump server is not resolved here.
        let local = Server {
            host: "localhost".into(),
            ..way.clone()
        };
        assert_eq!(relation(("/a", &here()), ("/a", &local)), None);
    }
}

#[test]
fn addresses_decide_where_names_do_not() {
    let (one, other) = (
        placed(1, "/a", &ssh("one.example"), None),
        placed(2, "/a/b", &ssh("other.example"), None),
    );
    let unknown = Resolved::default();
    assert_eq!(found(&one, &other, &unknown), None);
    let hosts = |one: &Placement, other: &Placement| {
        undecided_hosts(
            std::slice::from_ref(one),
            std::slice::from_ref(other),
            &unknown,
        )
    };
    let undecided = hosts(&one, &other);
    assert!(undecided.iter().eq(["one.example", "other.example"]));
    let apart = placed(2, "/b", &ssh("other.example"), None);
    assert!(hosts(&one, &apart).is_empty());
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    let mut resolved = Resolved::default();
    let shared = vec![address("192.0.2.1"), address("192.0.2.9")];
    resolved.addresses.insert("one.example".into(), shared);
    let second = vec![address("192.0.2.9")];
    resolved.addresses.insert("other.example".into(), second);
    assert!(found(&one, &other, &resolved).is_some());
    let by_address = placed(2, "/a", &ssh("192.0.2.1"), None);
    assert!(found(&one, &by_address, &resolved).is_some());
    let local = placed(2, "/a", &here(), None);
    assert_eq!(found(&one, &local, &resolved), None);
    resolved.own.push(address("192.0.2.9"));
    assert!(found(&one, &local, &resolved).is_some());
}

#[test]
fn links_are_followed() {
    let web = ssh("web.example");
    let unknown = Resolved::default();
    let plain = placed(1, "/data/a", &web, None);
    for (real, clashes) in [("/data/a", true), ("/data/a/b", true), ("/data/b", false)] {
        let linked = placed(2, "/srv/a", &web, Some(real));
        let clash = found(&linked, &plain, &unknown).map(|clash| clash.relation);
        assert_eq!(clash, clashes.then_some(Relation::Overlapping), "{real}");
    }
    // On this machine, links are resolved now and not read from the database.
    let local = placed(2, "/srv/a", &here(), Some("/data/b"));
    let other = placed(1, "/data/a", &here(), None);
    let mut resolved = Resolved::default();
    resolved.folders.insert("/srv/a".into(), "/data/a".into());
    assert!(found(&local, &other, &resolved).is_some());
    assert!(
        local_folders([&local, &plain].into_iter())
            .iter()
            .eq(["/srv/a"])
    );
}

#[test]
fn the_platforms_own_folder_is_nobodys() {
    let data = Path::new("/var/lib/longshore");
    let clash = |path: &str, server: &Server, real: Option<&str>| {
        let own = [placed(1, path, server, real)];
        clashes(&own, &[], &Resolved::default(), data).next()
    };
    for path in [
        "/var/lib",
        "/var/lib/longshore",
        "/var/lib/longshore/work/1",
    ] {
        let clash = clash(path, &here(), None).unwrap();
        assert_eq!(clash.neighbour, Neighbour::Platform, "{path}");
    }
    assert!(clash("/srv/a", &here(), Some("/var/lib/longshore")).is_some());
    assert_eq!(clash("/var/lib/longshore2", &here(), None), None);
    assert_eq!(
        clash("/var/lib/longshore/demo/servers/a", &here(), None),
        None
    );
    assert_eq!(clash("/var/lib", &ssh("web.example"), None), None);
}

#[test]
fn one_projects_servers_may_be_one_machine_by_two_names() {
    let (web, again) = (ssh("web.example"), ssh("web.example."));
    let own = [placed(1, "/a", &web, None), placed(1, "/a", &again, None)];
    let clash = clashes(&own, &[], &Resolved::default(), Path::new("/data")).next();
    assert_eq!(clash.unwrap().neighbour, Neighbour::Server);
}

fn folder() -> impl Strategy<Value = Vec<&'static str>> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "aa", "current"]), 1..5)
}

proptest! {
    #[test]
    fn a_clash_is_mutual_and_means_that_one_folder_begins_the_other(
        one in folder(), other in folder(), cut in 0usize..5, same in any::<bool>(),
    ) {
        let cut = cut.min(one.len() - 1);
        let rooted = Server {
            root: format!("/{}/", one[..cut].join("/")).replace("//", "/"),
            ..ssh("web.example")
        };
        let second = ssh(if same { "WEB.example." } else { "other.example" });
        let (head, tail) = (one[cut..].join("/"), other.join("/"));
        let clash = relation((&format!("/{head}"), &rooted), (&format!("/{tail}/"), &second));
        let expected = if one == other {
            Some(Relation::Same)
        } else if one.starts_with(&other) || other.starts_with(&one) {
            Some(Relation::Overlapping)
        } else {
            None
        };
        prop_assert_eq!(clash, expected.filter(|_| same));
    }
}
