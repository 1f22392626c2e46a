//! S7, S1: money moved between two accounts, by one append and by a process.

use super::*;

#[test]
fn s7_a_transfer_as_a_saga_ends_balanced_after_a_stop_at_any_step() {
    let dir = tempfile::tempdir().unwrap();
    let run = |path: &Path, at: usize| -> usize {
        let mut n = 0;
        for life in 0..2 {
            let conn = bank(path);
            let repo = conn.repository::<Account>();
            for (i, id) in ["a", "b", "closed"].into_iter().enumerate() {
                let open = AccountCommand::Open { owner: id.into() };
                repo.dispatch(id, open, Dispatch::id(command(10 + i as u128).0)).unwrap();
            }
            repo.dispatch("a", AccountCommand::Deposit { amount: 100 }, Dispatch::id(command(20).0)).unwrap();
            repo.dispatch("closed", AccountCommand::Close, Dispatch::id(command(21).0)).unwrap();
            transfer(&conn, 1, "a", "b", 30); // goes through
            transfer(&conn, 2, "a", "b", 500); // too much
            transfer(&conn, 3, "a", "closed", 20); // declined, comes back
            transfer(&conn, 4, "a", "nobody", 10); // refused, comes back
            while conn.step_processes().unwrap().is_some() {
                if life == 0 {
                    n += 1;
                    if n == at {
                        break;
                    }
                }
            }
            if n < at {
                return n;
            }
        }
        n
    };
    let check = |path: &Path, about: &str| {
        let conn = bank(path);
        assert_eq!(drain(&conn), 0, "{about}: it has come to rest");
        assert_eq!(
            (balance(&conn, "a"), balance(&conn, "b"), balance(&conn, "closed")),
            (70, 30, 0),
            "{about}"
        );
        let a = types(&conn, "account-a");
        assert_eq!(a.iter().filter(|t| *t == "MoneyWithdrawn").count(), 3, "{about}: {a:?}");
        assert_eq!(
            types(&conn, "account-closed"),
            ["AccountOpened", "AccountClosed", "PaymentDeclined"],
            "{about}"
        );
        // The transfer that was too much waits for nothing; the others are over.
        assert_eq!(conn.processes().unwrap()[0].instances, 1, "{about}");
    };
    let clean = dir.path().join("clean");
    let total = run(&clean, usize::MAX);
    check(&clean, "never stopped");
    assert!(total > 10, "{total}");
    for at in 1..=total {
        let path = dir.path().join(format!("at-{at}"));
        run(&path, at);
        check(&path, &format!("stopped after step {at} of {total}"));
    }
}

#[test]
fn s7_a_transfer_as_one_append_over_two_streams_is_whole_or_not_at_all() {
    let conn = annals::in_memory().unwrap();
    let repo = conn.repository::<Account>();
    for id in ["a", "b"] {
        repo.dispatch(id, AccountCommand::Open { owner: id.into() }, Dispatch::new()).unwrap();
        repo.dispatch(id, AccountCommand::Deposit { amount: 1000 }, Dispatch::new()).unwrap();
    }
    let move_money = |from: &str, to: &str, amount: i64| {
        let (a, b) = (repo.load(from).unwrap(), repo.load(to).unwrap());
        conn.append(
            Append::to(format!("account-{from}"))
                .expect_version(a.version.0)
                .push(AccountEvent::Withdrawn { amount }.to_new().unwrap())
                .and_to(format!("account-{to}"))
                .expect_version(b.version.0)
                .push(AccountEvent::Deposited { amount }.to_new().unwrap()),
        )
    };
    let moved = AtomicI64::new(0);
    std::thread::scope(|s| {
        for (from, to, sign) in [("a", "b", 1), ("b", "a", -1)] {
            let (move_money, moved) = (&move_money, &moved);
            s.spawn(move || {
                for n in 1..=50 {
                    if move_money(from, to, n).is_ok() {
                        moved.fetch_add(sign * n, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    let moved = moved.into_inner();
    assert_eq!((balance(&conn, "a"), balance(&conn, "b")), (1000 - moved, 1000 + moved));
}

#[test]
fn a_step_names_what_it_did() {
    let conn = annals::in_memory().unwrap();
    conn.register_commands::<Account>().unwrap();
    conn.register_process(Transfer).unwrap();
    transfer(&conn, 1, "a", "b", 5);
    assert!(matches!(conn.step_processes().unwrap(), Some(Step::Took { process: "transfer", .. })));
    assert!(matches!(conn.step_processes().unwrap(), Some(Step::Decided(_))));
    assert_eq!(conn.step_processes().unwrap(), None);
}
