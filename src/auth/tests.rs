use super::*;
use crate::store::{Durability, StoreError};

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn secret(text: &str) -> Secret<String> {
    Secret::new(text.to_owned())
}

fn auth() -> (tempfile::TempDir, Auth) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("longshore.db"), Durability::Process).unwrap();
    let options = AuthOptions {
        login_days: 14,
        public_urls: Vec::new(),
        proxies: crate::proxies::Proxies::default(),
    };
    (folder, Auth::new(store, &options))
}

fn cookie(login: &Login) -> Proof {
    Proof::Cookie(login.token.clone())
}

#[test]
fn a_login_ends_the_one_before_and_log_out_ends_it() {
    let (_folder, auth) = auth();
    auth.add_user("ann", &secret("correct horse"), Role::Deployer)
        .unwrap();
    let first = auth
        .log_in("ann", &secret("correct horse"), HERE, &Proof::None)
        .unwrap();
    let second = auth
        .log_in("ann", &secret("correct horse"), HERE, &cookie(&first))
        .unwrap();
    assert_ne!(first.token, second.token);
    assert!(auth.who(&cookie(&first)).unwrap().is_none());

    let ann = auth.who(&cookie(&second)).unwrap().unwrap();
    assert_eq!((ann.name.as_str(), ann.via), ("ann", Via::Cookie));
    assert!(ann.may(Role::Viewer) && ann.may(Role::Deployer) && !ann.may(Role::Admin));
    assert!(ann.accepts_csrf(ann.csrf.as_deref()));
    assert!(!ann.accepts_csrf(None) && !ann.accepts_csrf(Some("")));

    auth.log_out(&cookie(&second)).unwrap();
    assert!(auth.who(&cookie(&second)).unwrap().is_none());
}

#[test]
fn guessing_is_limited_even_side_by_side() {
    let (_folder, auth) = auth();
    auth.add_user("ann", &secret("correct horse"), Role::Viewer)
        .unwrap();
    for _ in 0..5 {
        let wrong = auth.log_in("ann", &secret("wrong horse"), HERE, &Proof::None);
        assert!(matches!(wrong, Err(AuthError::LoginFailed)));
    }
    let right = auth.log_in("ann", &secret("correct horse"), HERE, &Proof::None);
    assert!(matches!(right, Err(AuthError::TooManyAttempts { .. })));
    let unknown = auth.log_in("nobody", &secret("correct horse"), HERE, &Proof::None);
    assert!(matches!(unknown, Err(AuthError::LoginFailed)));
}

#[test]
fn links_work_once() {
    let (_folder, auth) = auth();
    assert!(auth.needs_setup().unwrap());
    let setup = auth.setup_link().unwrap();
    assert!(auth.setup_is_open(setup.expose()).unwrap());
    assert!(matches!(
        auth.enter(setup.expose(), &Proof::None),
        Err(AuthError::LinkExpired)
    ));

    let setup = auth.setup_link().unwrap();
    let weak = auth.set_up(setup.expose(), "ann", &secret("password"));
    assert!(matches!(
        weak,
        Err(AuthError::BadPassword(BadPassword::Common))
    ));
    let made = auth
        .set_up(setup.expose(), "ann", &secret("correct horse"))
        .unwrap();
    assert_eq!(auth.who(&cookie(&made)).unwrap().unwrap().role, Role::Admin);
    assert!(!auth.needs_setup().unwrap());
    let again = auth.set_up(setup.expose(), "bob", &secret("correct horse"));
    assert!(matches!(again, Err(AuthError::AlreadySetUp)));

    let link = auth.login_link("ann").unwrap();
    auth.enter(link.expose(), &Proof::None).unwrap();
    assert!(matches!(
        auth.enter(link.expose(), &Proof::None),
        Err(AuthError::LinkExpired)
    ));
    assert!(matches!(
        auth.login_link("bob"),
        Err(AuthError::UnknownUser { .. })
    ));
}

#[test]
fn tokens_open_the_api_and_need_no_csrf() {
    let (_folder, auth) = auth();
    auth.add_user("ann", &secret("correct horse"), Role::Admin)
        .unwrap();
    let token = auth.create_token("ann").unwrap();
    let ann = auth.who(&Proof::Bearer(token)).unwrap().unwrap();
    assert_eq!(ann.via, Via::Token);
    assert!(ann.accepts_csrf(None));
    for wrong in ["", "x", "../x"] {
        assert!(auth.who(&Proof::Bearer(secret(wrong))).unwrap().is_none());
    }
}

#[test]
fn names_of_accounts_are_checked() {
    let (_folder, auth) = auth();
    for name in ["", "a b", "a\n", "<b>", &"x".repeat(65)] {
        let refused = auth.add_user(name, &secret("correct horse"), Role::Viewer);
        assert!(matches!(refused, Err(AuthError::BadName)), "{name:?}");
    }
    auth.add_user("王小明", &secret("correct horse"), Role::Viewer)
        .unwrap();
    let taken = auth.add_user("王小明", &secret("correct horse"), Role::Viewer);
    assert!(matches!(
        taken,
        Err(AuthError::Store(StoreError::Taken { field: "name" }))
    ));
}

/// A way to lose the rights of a login.
type Loss = (&'static str, fn(&Auth, &Login));

#[test]
fn whoever_loses_a_right_is_not_known_any_more() {
    let horse = || secret("correct horse");
    let losses: [Loss; 5] = [
        ("log out", |auth, ann| auth.log_out(&cookie(ann)).unwrap()),
        ("another login", |auth, ann| {
            let again = secret("correct horse");
            drop(auth.log_in("ann", &again, HERE, &cookie(ann)).unwrap());
        }),
        ("a link", |auth, ann| {
            let link = auth.login_link("ann").unwrap();
            drop(auth.enter(link.expose(), &cookie(ann)).unwrap());
        }),
        ("disabled", |auth, _| {
            auth.set_disabled("ann", true).unwrap()
        }),
        ("another role", |auth, _| {
            auth.set_role("ann", Role::Viewer).unwrap()
        }),
    ];
    for (what, lose) in losses {
        let (_folder, auth) = auth();
        auth.add_user("ann", &horse(), Role::Admin).unwrap();
        let ann = auth.log_in("ann", &horse(), HERE, &Proof::None).unwrap();
        assert!(auth.known(&cookie(&ann)).is_none(), "{what}: nobody asked");
        assert!(auth.who(&cookie(&ann)).unwrap().is_some());
        assert_eq!(auth.known(&cookie(&ann)).unwrap().name, "ann", "{what}");
        let swapped = Proof::Bearer(ann.token.clone());
        assert!(auth.known(&swapped).is_none(), "a session is no token");
        lose(&auth, &ann);
        assert!(auth.known(&cookie(&ann)).is_none(), "{what}");
        let left = auth.who(&cookie(&ann)).unwrap();
        let role = (what == "another role").then_some(Role::Viewer);
        assert_eq!(left.map(|ann| ann.role), role, "{what}");
    }
}

#[test]
fn a_deleted_token_is_not_known_any_more() {
    let (_folder, auth) = auth();
    auth.add_user("ann", &secret("correct horse"), Role::Admin)
        .unwrap();
    let token = Proof::Bearer(auth.create_token("ann").unwrap());
    assert!(auth.who(&token).unwrap().is_some() && auth.known(&token).is_some());
    assert_eq!(auth.revoke_tokens("ann").unwrap(), 1);
    assert!(auth.known(&token).is_none() && auth.who(&token).unwrap().is_none());
    assert!(auth.revoke_tokens("bob").is_err());
}

#[test]
fn a_look_that_began_before_a_loss_does_not_count_after_it() {
    let (_folder, auth) = auth();
    auth.add_user("ann", &secret("correct horse"), Role::Admin)
        .unwrap();
    let token = Proof::Bearer(auth.create_token("ann").unwrap());
    let ann = auth.who(&token).unwrap();
    let look = auth.0.known.look();
    auth.set_disabled("ann", true).unwrap();
    auth.0.known.keep(&token, look, ann.as_ref());
    assert!(auth.known(&token).is_none());
}

#[test]
fn what_another_process_takes_away_is_known_for_a_second_at_most() {
    let (folder, auth) = auth();
    auth.add_user("ann", &secret("correct horse"), Role::Admin)
        .unwrap();
    let token = Proof::Bearer(auth.create_token("ann").unwrap());
    let asked = Instant::now();
    assert!(auth.who(&token).unwrap().is_some());
    let answered = Instant::now();
    let store = Store::open(&folder.path().join("longshore.db"), Durability::Process).unwrap();
    let other = Auth::new(
        store,
        &AuthOptions {
            login_days: 14,
            public_urls: Vec::new(),
            proxies: Proxies::default(),
        },
    );
    other.set_disabled("ann", true).unwrap();
    let known = |at| auth.0.known.get(&token, at).is_some();
    assert!(known(asked), "this process has not heard of it");
    assert!(!known(answered + known::FRESH));
    assert!(auth.who(&token).unwrap().is_none());
    assert!(!known(asked), "whoever asked in between told everybody");
}

#[test]
fn enabling_an_account_again_revives_nothing() {
    let (_folder, auth) = auth();
    let password = secret("correct horse");
    auth.add_user("ann", &password, Role::Admin).unwrap();
    let token = Proof::Bearer(auth.create_token("ann").unwrap());
    let login = cookie(&auth.log_in("ann", &password, HERE, &Proof::None).unwrap());
    let link = auth.login_link("ann").unwrap();
    auth.set_disabled("ann", true).unwrap();
    auth.set_disabled("ann", false).unwrap();
    for proof in [&token, &login] {
        assert!(auth.who(proof).unwrap().is_none(), "{proof:?}");
    }
    let entered = auth.enter(link.expose(), &Proof::None);
    assert!(matches!(entered, Err(AuthError::LinkExpired)));
    auth.log_in("ann", &password, HERE, &Proof::None).unwrap();
}
