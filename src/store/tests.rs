mod log;
mod ssh;

use super::*;
use crate::store::nodes::NewNode;
use crate::store::projects::ProjectValues;
use crate::store::releases::{NewRelease, ReleaseChange};
use crate::store::servers::ServerValues;

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("longshore.db"), Durability::Process).unwrap();
    (folder, store)
}

fn server(hostname: &str) -> ServerValues {
    ServerValues {
        hostname: hostname.into(),
        host: "192.0.2.1".into(),
        port: 22,
        user: "deploy".into(),
        kind: ServerKind::Ssh,
        credential_id: None,
        root: "/".into(),
        jump_id: None,
        connect_seconds: None,
        idle_seconds: None,
    }
}

fn project(title: &str) -> ProjectValues {
    ProjectValues {
        title: title.into(),
        repo: "https://git.example/shop.git".into(),
        credential_id: None,
        unchanged: crate::store::Unchanged::Copy,
        env: Environment::Test,
        path: "/srv/shop".into(),
        keep: 5,
        build: String::new(),
        restart: String::new(),
        before_download: String::new(),
        after_download: String::new(),
        before_deploy: String::new(),
        after_deploy: String::new(),
        depth: 0,
        submodules: false,
        health: String::new(),
        health_seconds: crate::store::projects::HEALTH_SECONDS,
        hooks_stop: false,
        login_shell: false,
    }
}

fn release(project: ProjectId) -> NewRelease {
    NewRelease {
        project_id: project,
        kind: ReleaseKind::Deploy,
        target_id: None,
        revision: "main".into(),
        commit_id: None,
        summary: String::new(),
        requested_by: "ann".into(),
        spec: "{}".into(),
        nodes: vec![NewNode {
            key: "start".into(),
            parent: None,
            step: "start".into(),
            server: None,
        }],
    }
}

#[test]
fn a_server_in_use_stays_and_the_error_names_its_project() {
    let (_folder, store) = store();
    let added = store.write(|c| servers::add(c, &server("web-1"))).unwrap();
    let shop = store
        .write(|c| projects::add(c, &project("shop"), &[added.id]))
        .unwrap();
    let refused = store.write(|c| servers::delete(c, added.id)).unwrap_err();
    assert!(
        matches!(refused, StoreError::InUse { ref by, .. } if by == "shop"),
        "{refused}"
    );
    store.write(|c| projects::delete(c, shop.id)).unwrap();
    store.write(|c| servers::delete(c, added.id)).unwrap();
    let gone = store.write(|c| servers::delete(c, added.id)).unwrap_err();
    assert!(matches!(gone, StoreError::NotFound { .. }));
}

#[test]
fn a_taken_name_names_its_field_and_saves_nothing() {
    let (_folder, store) = store();
    store.write(|c| servers::add(c, &server("web-1"))).unwrap();
    let refused = store
        .write(|c| servers::add(c, &server("web-1")))
        .unwrap_err();
    assert!(matches!(refused, StoreError::Taken { field: "hostname" }));
    assert_eq!(store.read(servers::all).unwrap().len(), 1);
}

#[test]
fn another_host_forgets_the_accepted_key() {
    let (_folder, store) = store();
    let added = store.write(|c| servers::add(c, &server("web-1"))).unwrap();
    store
        .write(|c| servers::set_host_key(c, added.id, Some("SHA256:x")))
        .unwrap();
    let mut values = server("web-one");
    let renamed = store
        .write(|c| servers::update(c, added.id, &values))
        .unwrap();
    assert_eq!(renamed.host_key.as_deref(), Some("SHA256:x"));
    values.port = 2222;
    let moved = store
        .write(|c| servers::update(c, added.id, &values))
        .unwrap();
    assert_eq!(moved.host_key, None);
}

#[test]
fn one_release_a_project_is_active_however_many_ask() {
    let (_folder, store) = store();
    let shop = store
        .write(|c| projects::add(c, &project("shop"), &[]))
        .unwrap();
    let results: Vec<_> = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| store.write(|c| releases::add(c, &release(shop.id)))))
            .collect();
        asking.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let accepted: Vec<_> = results.iter().filter_map(|r| r.as_ref().ok()).collect();
    assert_eq!(accepted.len(), 1);
    assert!(
        results
            .iter()
            .filter_map(|r| r.as_ref().err())
            .all(|error| matches!(
                error,
                StoreError::ReleaseActive { active } if *active == accepted[0].id
            ))
    );

    let ended = ReleaseChange {
        state: Some(ReleaseState::Failed),
        ..ReleaseChange::default()
    };
    let first = accepted[0];
    assert!(
        store
            .write(|c| releases::change(c, first.id, first.version, &ended))
            .unwrap()
            .is_some()
    );
    assert!(
        store
            .write(|c| releases::change(c, first.id, first.version, &ended))
            .unwrap()
            .is_none()
    );
    store
        .write(|c| releases::add(c, &release(shop.id)))
        .unwrap();
}

#[test]
fn pages_stay_in_bounds() {
    let (_folder, store) = store();
    for number in 0..7 {
        store
            .write(|c| servers::add(c, &server(&format!("web-{number}"))))
            .unwrap();
    }
    let page = store
        .read(|c| servers::page(c, PageRequest::new(99, 3)))
        .unwrap();
    assert_eq!((page.page, page.pages, page.total), (3, 3, 7));
    assert_eq!(page.items[0].hostname, "web-6");
}

#[test]
fn no_release_is_live_once_a_later_one_has_switched_servers_and_failed() {
    let (_folder, store) = store();
    let shop = store
        .write(|c| projects::add(c, &project("shop"), &[]))
        .unwrap();
    let run = |end: ReleaseState, switched: bool| {
        let mut new = release(shop.id);
        new.nodes[0].step = "switch".into();
        store
            .write(|c| {
                let release = releases::add(c, &new)?;
                if switched {
                    let node = nodes::find(c, release.id, "start")?;
                    nodes::set_state(c, &node, NodeState::Running, "")?;
                }
                let ended = ReleaseChange {
                    state: Some(end),
                    ..ReleaseChange::default()
                };
                releases::change(c, release.id, release.version, &ended)?;
                Ok(release.id)
            })
            .unwrap()
    };
    let live = || store.read(|c| releases::live(c, shop.id)).unwrap();
    let good = run(ReleaseState::Succeeded, true);
    run(ReleaseState::Failed, false);
    assert_eq!(live(), Some(good));
    run(ReleaseState::Partial, true);
    assert_eq!(live(), None);
}

#[test]
fn a_damaged_file_is_refused_at_once_and_kept() {
    let (folder, store) = store();
    for number in 0..200 {
        store
            .write(|c| servers::add(c, &server(&format!("web-{number}"))))
            .unwrap();
    }
    drop(store);
    let sound = std::fs::read(folder.path().join("longshore.db")).unwrap();
    let mut no_head = sound.clone();
    no_head[..32].fill(b'x');
    let mut no_pages = sound.clone();
    no_pages[4096..].fill(0x5a);
    let cut = sound[..sound.len() / 2].to_vec();
    for bytes in [no_head, no_pages, cut] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("longshore.db");
        std::fs::write(&path, &bytes).unwrap();
        let begun = std::time::Instant::now();
        let refused = Store::open(&path, Durability::Process).err().unwrap();
        let text = refused.to_string();
        assert!(text.contains("longshore.db: "), "{text}");
        assert!(!text.contains('\n'), "{text}");
        assert!(begun.elapsed() < ACQUIRE);
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }
}

#[test]
fn a_real_path_is_kept_as_long_as_its_project_and_server_lie_where_they_did() {
    let (_folder, store) = store();
    let web = store.write(|c| servers::add(c, &server("web"))).unwrap().id;
    let other = store.write(|c| servers::add(c, &server("other"))).unwrap();
    let shop = store
        .write(|c| projects::add(c, &project("shop"), &[web, other.id]))
        .unwrap()
        .id;
    let real = |id: ServerId| {
        let rows = store.read(projects::placements).unwrap();
        let row = rows.into_iter().find(|row| row.server.id == id).unwrap();
        row.real_path
    };
    let find = || {
        let set = |c: &mut Conn, id| projects::set_real_path(c, shop, id, Some("/data/shop"));
        store
            .write(|c| set(c, web).and_then(|()| set(c, other.id)))
            .unwrap();
    };
    let found = Some("/data/shop".to_owned());
    find();
    let renamed = ProjectValues {
        title: "store".into(),
        ..project("shop")
    };
    store
        .write(|c| projects::update(c, shop, &renamed, &[web, other.id]))
        .unwrap();
    assert_eq!((real(web), real(other.id)), (found.clone(), found.clone()));
    let elsewhere = ServerValues {
        root: "/other".into(),
        ..server("web")
    };
    store
        .write(|c| servers::update(c, web, &elsewhere))
        .unwrap();
    assert_eq!((real(web), real(other.id)), (None, found));
    find();
    let proxied = servers::ProxyValues {
        proxy: Some("http://gate".into()),
        ..servers::ProxyValues::default()
    };
    store
        .write(|c| servers::set_proxy(c, web, &proxied))
        .unwrap();
    assert_eq!(real(web), None);
    find();
    let moved = ProjectValues {
        path: "/srv/moved".into(),
        ..renamed
    };
    store
        .write(|c| projects::update(c, shop, &moved, &[web, other.id]))
        .unwrap();
    assert_eq!((real(web), real(other.id)), (None, None));
}
