//! Attacks on signing in.
//!
//! Owns: trying what must not work against the identity store. Refuses to know: HTTP.

use super::*;
use crate::db::Location;
use tempfile::TempDir;

async fn one_person() -> (TempDir, Db, PersonId) {
    let folder = tempfile::tempdir().unwrap();
    let db = Db::open(&Location::Sqlite(folder.path().join("homeroom.db"))).await.unwrap();
    let (district, person) = (Uuid::now_v7(), PersonId::new());
    execute!(db.writes(), "INSERT INTO district (id, name, created_at) VALUES ($1, 'D', $2)", district, Utc::now())
        .unwrap();
    execute!(
        db.writes(),
        "INSERT INTO person (id, district_id, source_id, source_digest, username, given_name, family_name)
         VALUES ($1, $2, 'p', $3, 'ana.silva', 'Ana', 'Silva')",
        person.0,
        district,
        vec![1_u8]
    )
    .unwrap();
    (folder, db, person)
}

async fn count(db: &Db, sql: &'static str) -> i64 {
    fetch_optional!(db.reads(), (i64,), sql).unwrap().unwrap().0
}

#[tokio::test]
async fn a_link_signs_in_once_even_when_it_is_used_many_times_at_once() {
    let (_folder, db, person) = one_person().await;
    let invitation = invite(&db, person).await.unwrap().unwrap();
    let link = invitation.secret.reveal();
    let tries = (0..20).map(|_| sign_in_with_link(&db, link));
    let outcomes = futures_util::future::join_all(tries).await;
    assert_eq!(outcomes.iter().filter(|outcome| matches!(outcome, Ok(Some(_)))).count(), 1);
    assert_eq!(count(&db, "SELECT COUNT(*) FROM login").await, 1);
    assert_eq!(count(&db, "SELECT COUNT(*) FROM person WHERE reached_at IS NOT NULL").await, 1);
    assert!(sign_in_with_code(&db, "ana.silva", invitation.code.reveal()).await.unwrap().is_none(), "used by its link");
}

#[tokio::test]
async fn five_wrong_codes_kill_the_code_also_when_they_come_at_once() {
    let (_folder, db, person) = one_person().await;
    let invitation = invite(&db, person).await.unwrap().unwrap();
    let tries = (0..50).map(|_| sign_in_with_code(&db, "ana.silva", "BBBBBBBB"));
    assert!(futures_util::future::join_all(tries).await.into_iter().all(|outcome| outcome.unwrap().is_none()));
    assert_eq!(count(&db, "SELECT tries_left FROM invitation").await, 0);
    assert!(sign_in_with_code(&db, "ana.silva", invitation.code.reveal()).await.unwrap().is_none());
    assert!(sign_in_with_link(&db, invitation.secret.reveal()).await.unwrap().is_some(), "its link still works");
}

#[tokio::test]
async fn the_fifth_try_may_be_right_and_the_name_typed_with_a_capital() {
    let (_folder, db, person) = one_person().await;
    let invitation = invite(&db, person).await.unwrap().unwrap();
    for _ in 1..TRIES {
        assert!(sign_in_with_code(&db, "ana.silva", "BBBBBBBB").await.unwrap().is_none());
    }
    let code = invitation.code.reveal().to_lowercase();
    let login = sign_in_with_code(&db, " Ana.silva ", &code).await.unwrap().unwrap();
    assert_eq!((login.who.person, login.who.name.as_str()), (person, "Ana Silva"));
}

#[tokio::test]
async fn a_name_that_nobody_can_have_is_no_error() {
    let (_folder, db, _) = one_person().await;
    assert!(sign_in_with_code(&db, "ana\0silva", "BBBBBBBB").await.unwrap().is_none());
    assert!(sign_in_with_code(&db, "' OR '1'='1", "BBBBBBBB").await.unwrap().is_none());
}

#[tokio::test]
async fn what_has_run_out_is_worth_nothing() {
    let (_folder, db, person) = one_person().await;
    let invitation = invite(&db, person).await.unwrap().unwrap();
    let past = Utc::now() - Duration::seconds(1);
    execute!(db.writes(), "UPDATE invitation SET expires_at = $1", past).unwrap();
    assert!(sign_in_with_link(&db, invitation.secret.reveal()).await.unwrap().is_none());
    assert!(sign_in_with_code(&db, "ana.silva", invitation.code.reveal()).await.unwrap().is_none());

    let invitation = invite(&db, person).await.unwrap().unwrap();
    let token = sign_in_with_link(&db, invitation.secret.reveal()).await.unwrap().unwrap().token;
    execute!(db.writes(), "UPDATE login SET expires_at = $1", past).unwrap();
    assert!(who(&db, token.reveal()).await.unwrap().is_none());
}

#[tokio::test]
async fn who_is_no_longer_at_the_school_can_not_sign_in_nor_stay() {
    let (_folder, db, person) = one_person().await;
    let first = invite(&db, person).await.unwrap().unwrap();
    let second = invite(&db, person).await.unwrap().unwrap();
    let token = sign_in_with_link(&db, first.secret.reveal()).await.unwrap().unwrap().token;
    execute!(db.writes(), "UPDATE person SET enabled = FALSE").unwrap();
    assert!(who(&db, token.reveal()).await.unwrap().is_none());
    assert!(sign_in_with_link(&db, second.secret.reveal()).await.unwrap().is_none());
    assert!(sign_in_with_code(&db, "ana.silva", second.code.reveal()).await.unwrap().is_none());
    assert!(invite(&db, person).await.unwrap().is_none());
}

#[tokio::test]
async fn no_secret_is_stored_or_printed_as_it_is() {
    let (folder, db, person) = one_person().await;
    let invitation = invite(&db, person).await.unwrap().unwrap();
    let spare = invite(&db, person).await.unwrap().unwrap();
    let login = sign_in_with_link(&db, invitation.secret.reveal()).await.unwrap().unwrap();
    let printed = format!("{invitation:?} {spare:?} {login:?}");
    let secrets = [&invitation.secret, &invitation.code, &spare.secret, &spare.code, &login.token];
    assert!(secrets.iter().all(|secret| !printed.contains(secret.reveal())), "{printed}");
    db.close().await;
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        for secret in secrets {
            let secret = secret.reveal().as_bytes();
            assert!(!bytes.windows(secret.len()).any(|window| window == secret));
        }
    }
}

#[tokio::test]
async fn use_makes_a_sign_in_last_and_is_noted_at_most_once_an_hour() {
    let (_folder, db, person) = one_person().await;
    let invitation = invite(&db, person).await.unwrap().unwrap();
    let token = sign_in_with_link(&db, invitation.secret.reveal()).await.unwrap().unwrap().token;
    let stamps = async || {
        let row = fetch_optional!(db.reads(), (DateTime<Utc>, DateTime<Utc>), "SELECT used_at, expires_at FROM login");
        row.unwrap().unwrap()
    };
    let fresh = stamps().await;
    who(&db, token.reveal()).await.unwrap().unwrap();
    assert_eq!(stamps().await, fresh, "used a moment ago");

    let (used, expires) = (Utc::now() - Duration::days(20), Utc::now() + Duration::days(10));
    execute!(db.writes(), "UPDATE login SET used_at = $1, expires_at = $2", used, expires).unwrap();
    who(&db, token.reveal()).await.unwrap().unwrap();
    assert!(stamps().await.1 > Utc::now() + Duration::days(29));
}

#[tokio::test]
async fn signing_out_everywhere_also_ends_open_invitations() {
    let (_folder, db, person) = one_person().await;
    let [first, second, open] = std::array::from_fn(|_| invite(&db, person));
    let (first, second, open) =
        (first.await.unwrap().unwrap(), second.await.unwrap().unwrap(), open.await.unwrap().unwrap());
    let first = sign_in_with_link(&db, first.secret.reveal()).await.unwrap().unwrap();
    let second = sign_in_with_link(&db, second.secret.reveal()).await.unwrap().unwrap();
    sign_out(&db, first.who.login).await.unwrap();
    assert!(who(&db, first.token.reveal()).await.unwrap().is_none());
    assert!(who(&db, second.token.reveal()).await.unwrap().is_some());
    assert_eq!(sign_out_everywhere(&db, person).await.unwrap(), [second.who.login]);
    assert!(who(&db, second.token.reveal()).await.unwrap().is_none());
    assert!(sign_in_with_link(&db, open.secret.reveal()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_sign_in_stands_until_it_is_ended_or_runs_out_and_being_looked_at_is_being_used() {
    let (_folder, db, person) = one_person().await;
    let mut logins = Vec::new();
    for _ in 0..3 {
        let invitation = invite(&db, person).await.unwrap().unwrap();
        logins.push(sign_in_with_link(&db, invitation.secret.reveal()).await.unwrap().unwrap().who.login);
    }
    let [stays, ended, ran_out] = logins[..] else { unreachable!() };
    sign_out(&db, ended).await.unwrap();
    execute!(db.writes(), "UPDATE login SET expires_at = $2 WHERE id = $1", ran_out, Utc::now()).unwrap();
    let yesterday = Utc::now() - Duration::days(1);
    execute!(db.writes(), "UPDATE login SET used_at = $2 WHERE id = $1", stays, yesterday).unwrap();
    assert_eq!(still_signed_in(&db, &logins).await.unwrap(), HashSet::from([stays]));
    let text = "SELECT used_at FROM login WHERE id = $1";
    let (used_at,) = fetch_optional!(db.reads(), (DateTime<Utc>,), text, stays).unwrap().unwrap();
    assert!(used_at > yesterday, "an open session keeps its sign-in alive");
    execute!(db.writes(), "UPDATE person SET enabled = FALSE WHERE id = $1", person.0).unwrap();
    assert_eq!(still_signed_in(&db, &logins).await.unwrap(), HashSet::new(), "who left the school is signed out");
}
