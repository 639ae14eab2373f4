//! Bounds on clients, and clients that have gone making room.

use super::*;

fn from(address: u8, name: &str) -> Poll {
    Poll {
        address: Some([192, 0, 2, address].into()),
        ..poll(name, &["chat"], "now", 0)
    }
}

/// Makes every client without a poll in flight count as long idle.
fn all_are_idle(bench: &Bench) {
    bench.hub.lock().options.idle = Duration::ZERO;
}

#[tokio::test]
async fn an_address_has_its_share_and_gets_it_back() {
    let bench = bench(HubOptions {
        address_clients: 2,
        ..HubOptions::default()
    });
    for name in ["a", "b", "a"] {
        bench.hub.poll(from(1, name)).await.unwrap();
    }
    let third = bench.hub.poll(from(1, "c")).await;
    assert!(matches!(
        third,
        Err(PollError::Full(TooManyClients::OfAddress))
    ));
    bench.hub.poll(from(2, "c")).await.unwrap();
    bench
        .hub
        .poll(poll("nowhere", &["chat"], "now", 0))
        .await
        .unwrap();
    all_are_idle(&bench);
    assert!(!bench.hub.sweep());
    assert_eq!(bench.hub.census().clients, 0);
    bench.hub.lock().options.idle = HubOptions::default().idle;
    for name in ["d", "e"] {
        bench.hub.poll(from(1, name)).await.unwrap();
    }
    assert!(bench.hub.poll(from(1, "f")).await.is_err());
}

#[tokio::test]
async fn a_poll_has_so_many_rooms_and_no_more() {
    let bench = bench(HubOptions {
        rooms: 2,
        ..HubOptions::default()
    });
    let asked = |rooms: &[&str]| bench.hub.poll(poll("a", rooms, "now", 0));
    assert!(asked(&["chat", "vote/x"]).await.is_ok());
    let refused = asked(&["chat", "vote/x", "vote/y"]).await;
    assert!(matches!(refused, Err(PollError::Rooms { most: 2 })));
    assert_eq!(bench.hub.census().rooms, 2);
}

#[tokio::test]
async fn rooms_that_somebody_names_in_passing_are_not_kept() {
    let bench = bench(HubOptions::default());
    for number in 0..10_000 {
        let name = format!("chat/{number}");
        bench.hub.poll(poll("a", &[&name], "now", 0)).await.unwrap();
        bench.say(&name, "nobody hears it but the log");
        bench.say(&format!("vote/{number}"), "here too");
    }
    assert_eq!(bench.hub.census().rooms, 1);
    let batch = bench
        .hub
        .poll(poll("b", &["chat/7", "vote/7"], "birth.0", 0))
        .await
        .unwrap();
    assert_eq!(texts(&batch), ["nobody hears it but the log", "here too"]);
}

/// The lock is held for one slice, however many clients have gone.
#[tokio::test]
async fn sweeping_a_hundred_thousand_holds_nobody_up() {
    const CLIENTS: usize = 100_000;
    let bench = bench(HubOptions {
        address_clients: CLIENTS,
        ..HubOptions::default()
    });
    for number in 0..CLIENTS {
        let from = from(1, &number.to_string());
        bench.hub.poll(from).await.unwrap();
    }
    all_are_idle(&bench);
    let mut slices = Vec::new();
    loop {
        let begun = std::time::Instant::now();
        let goes_on = bench.hub.sweep();
        slices.push(begun.elapsed());
        if !goes_on {
            break;
        }
    }
    assert_eq!(bench.hub.census().clients, 0);
    assert_eq!(slices.len(), CLIENTS.div_ceil(256));
    slices.sort_unstable();
    let (median, longest) = (slices[slices.len() / 2], slices[slices.len() - 1]);
    eprintln!("a slice takes {median:?}, the longest {longest:?}");
}

#[tokio::test]
async fn positions_are_bounded_and_the_latest_are_kept() {
    let bench = bench(HubOptions {
        clients: 100,
        ..HubOptions::default()
    });
    let positions = bench.hub.positions();
    let client = |number: usize| ClientId::new(None, &number.to_string()).unwrap();
    let first = bench.hub.now();
    for number in 0..1000 {
        positions.set(&client(number), first);
    }
    bench.say("chat", "later");
    let later = bench.hub.now();
    assert_eq!(positions.get_or_set(&client(999), later), first);
    assert_eq!(positions.get_or_set(&client(950), later), first);
    assert_eq!(positions.get_or_set(&client(0), later), later);
    positions.sweep();
    assert_eq!(positions.get_or_set(&client(999), later), first);
}

#[tokio::test]
async fn whoever_is_made_to_wait_in_a_drain_is_let_go_at_its_end() {
    let bench = bench(HubOptions::default());
    let (hub, other) = (bench.hub.clone(), bench.hub.clone());
    let early = tokio::spawn(async move { hub.ended().await });
    bench.hub.drain();
    assert!(bench.hub.is_draining() && !early.is_finished());
    bench.hub.end();
    early.await.unwrap();
    other.ended().await;
}
