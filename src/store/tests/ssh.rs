//! Jump servers, newer credential kinds and the audit log.

use super::*;
use crate::store::audit::NewEntry;
use crate::store::credentials::CredentialValues;

fn through(store: &Store, hostname: &str, jump: Option<ServerId>) -> ServerId {
    let values = ServerValues {
        jump_id: jump,
        ..server(hostname)
    };
    store.write(|c| servers::add(c, &values)).unwrap().id
}

#[test]
fn the_way_to_a_server_has_an_end() {
    let (_folder, store) = store();
    let mut ids = vec![through(&store, "s0", None)];
    for number in 1..=5 {
        ids.push(through(&store, &format!("s{number}"), ids.last().copied()));
    }
    let way = |id: ServerId, jump: Option<ServerId>| {
        let way = store.read(|c| servers::way(c, id, jump));
        way.map(|way| way.into_iter().map(|server| server.id).collect::<Vec<_>>())
    };
    assert_eq!(way(ids[0], None).unwrap(), []);
    assert_eq!(
        way(ids[4], Some(ids[3])).unwrap(),
        [ids[3], ids[2], ids[1], ids[0]]
    );
    let is_refused = |id, jump| matches!(way(id, jump), Err(StoreError::JumpLoop { .. }));
    assert!(is_refused(ids[5], Some(ids[4])), "five jumps");
    assert!(is_refused(ids[0], Some(ids[0])));
    assert!(is_refused(ids[0], Some(ids[3])));
    assert!(matches!(
        way(ids[0], Some(ServerId(99))),
        Err(StoreError::NotFound { .. })
    ));
    let blocked = store.write(|c| servers::delete(c, ids[0])).unwrap_err();
    assert!(
        matches!(&blocked, StoreError::InUse { by, .. } if by == "s1"),
        "{blocked}"
    );
    store.write(|c| servers::delete(c, ids[5])).unwrap();
}

#[test]
fn a_server_is_found_by_its_name_before_its_id() {
    let (_folder, store) = store();
    let first = through(&store, "2", None);
    let second = through(&store, "web", None);
    let named = |name: &str| store.read(|c| servers::named(c, name)).map(|it| it.id);
    assert_eq!(named("web").unwrap(), second);
    assert_eq!(named("2").unwrap(), first);
    assert_eq!(named("1").unwrap(), first);
    for none in ["7", "nobody", ""] {
        assert!(matches!(named(none), Err(StoreError::NotFound { .. })));
    }
}

#[test]
fn the_audit_tells_what_began_and_how_it_ended_and_forgets_what_is_old() {
    let (_folder, store) = store();
    let web = through(&store, "web", None);
    let long = "x".repeat(5000);
    let begin = |action: &str, server, detail: &str| {
        let entry = NewEntry {
            who: "ann",
            way: AuditWay::Api,
            action,
            server,
            detail,
        };
        store.write(|c| audit::begin(c, &entry)).unwrap()
    };
    let first = begin("exec", Some((web, "web")), &long);
    begin("import", None, "");
    store
        .write(|c| audit::end(c, first, AuditOutcome::Failed, "exit code 7"))
        .unwrap();
    let page = |server| {
        let request = PageRequest::new(1, 10);
        store.read(|c| audit::page(c, server, request)).unwrap()
    };
    let all = page(None).items;
    assert_eq!(all.len(), 2);
    assert_eq!(
        (all[0].action.as_str(), all[0].outcome, all[0].ended_at),
        ("import", AuditOutcome::Begun, None)
    );
    let of_web = page(Some(web)).items;
    assert_eq!(of_web.len(), 1);
    assert_eq!(of_web[0].detail.len(), 4096);
    assert_eq!(of_web[0].message, "exit code 7");
    // The entry outlives the server.
    store.write(|c| servers::delete(c, web)).unwrap();
    assert_eq!(page(Some(web)).items[0].server, "web");
    store.write(|c| audit::sweep(c, 1)).unwrap();
    assert_eq!(page(None).total, 2);
    // An entry of this very millisecond is not older than zero days.
    while Moment::now() <= all[0].at {
        std::thread::yield_now();
    }
    store.write(|c| audit::sweep(c, 0)).unwrap();
    assert_eq!(page(None).total, 0);
}

#[test]
fn an_older_database_keeps_its_credentials_under_their_ids() {
    let (_folder, store) = store();
    let add = |name: &str, kind| {
        let values = CredentialValues {
            name: name.into(),
            kind,
            secret: vec![1, 2, 3],
            passphrase: Some(vec![4]),
            password: Some(vec![5]),
            path: None,
        };
        store.write(|c| credentials::add(c, &values)).unwrap().id
    };
    let key = add("key", CredentialKind::SshKey);
    let gone = add("gone", CredentialKind::Password);
    let user = ServerValues {
        credential_id: Some(key),
        ..server("web")
    };
    let web = store.write(|c| servers::add(c, &user)).unwrap().id;
    store.write(|c| credentials::delete(c, gone)).unwrap();
    let mut conn = store.connection().unwrap();
    // Reverts to before the migration that recreated the credentials table.
    while conn.revert_last_migration(MIGRATIONS).unwrap().to_string() != "20261126091000" {}
    conn.run_pending_migrations(MIGRATIONS).unwrap();
    drop(conn);
    let kept = store.read(|c| credentials::find(c, key)).unwrap();
    assert_eq!(
        (kept.name.as_str(), kept.secret, kept.passphrase, kept.path),
        ("key", vec![1, 2, 3], Some(vec![4]), None)
    );
    assert_eq!(kept.password, None);
    let web = store.read(|c| servers::find(c, web)).unwrap();
    assert_eq!(web.credential_id, Some(key));
    // The references survive, and no id is given twice.
    assert!(store.write(|c| credentials::delete(c, key)).is_err());
    assert!(add("file", CredentialKind::SshKeyFile) > key);
}
