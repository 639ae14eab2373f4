//! Mirrors of projects that were changed or deleted.

use super::*;
use crate::deploy::Freshness;

#[tokio::test]
async fn a_projects_mirror_stays_until_its_address_changes() {
    let stage = Stage::new(1, |_| {});
    let root = stage.folder.path().canonicalize().unwrap();
    let mirrors = || fs::read_dir(root.join("mirrors")).unwrap().count();
    let (id, engine) = (stage.project.id, &stage.engine);
    engine.refs(id, Freshness::Usual).await.unwrap();
    let day = Duration::from_secs(86_400);
    assert_eq!(engine.sweep_mirrors(Duration::ZERO).unwrap(), 0);
    assert_eq!(mirrors(), 1);

    repository(&root.join("moved.git"));
    let moved = values(&root.join("moved.git"));
    let change = |values: &ProjectValues| {
        let servers = stage.store.read(servers::all).unwrap();
        let servers: Vec<_> = servers.iter().map(|server| server.id).collect();
        let write = |conn: &mut _| projects::update(conn, id, values, &servers);
        stage.store.write(write).unwrap();
    };
    change(&moved);
    engine.refs(id, Freshness::Usual).await.unwrap();
    assert_eq!(mirrors(), 2);
    assert_eq!(
        engine.sweep_mirrors(day).unwrap(),
        0,
        "it was used just now"
    );
    assert_eq!(engine.sweep_mirrors(Duration::ZERO).unwrap(), 1);
    assert_eq!(mirrors(), 1);
    engine.commits(id, Some("main".into()), 1).await.unwrap();

    // An address that the settings no longer allow keeps nothing.
    change(&values(Path::new("/elsewhere/app.git")));
    assert_eq!(engine.sweep_mirrors(Duration::ZERO).unwrap(), 1);
    assert_eq!(mirrors(), 0);
}
