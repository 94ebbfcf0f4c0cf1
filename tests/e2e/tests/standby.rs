//! Reading servers: a hot standby, a read-only transaction.

use vector_embed_e2e::cluster::{Cluster, Shared};
use vector_embed_e2e::golden;
use vector_embed_e2e::sql::{embed, execute, refused};
use vector_embed_e2e::vectors::{EQUAL, assert_close};

#[test]
fn a_hot_standby_embeds_with_an_engine_of_its_own() {
    let primary = Cluster::new();
    let mut on_primary = primary.connect();
    let golden = golden::sentences()[0];
    let first = embed(&mut on_primary, &golden.text).expect("a vector");
    golden.assert_is(&first);

    let standby = primary.standby();
    let mut on_standby = standby.connect();
    let recovering: bool = on_standby.query_one("SELECT pg_is_in_recovery()", &[]).expect("a row").get(0);
    assert!(recovering, "it is a standby");
    let second = embed(&mut on_standby, &golden.text).expect("a vector");
    assert_close(&golden.text, &second, &first, EQUAL);

    assert_ne!(standby.engine(), primary.engine());
    assert_ne!(standby.supervisor(), primary.supervisor());
}

#[test]
fn a_standby_that_is_promoted_keeps_its_engine() {
    let primary = Cluster::new();
    let standby = primary.standby();
    let mut client = standby.connect();
    let golden = golden::sentences()[0];
    golden.assert_is(&embed(&mut client, &golden.text).expect("a vector"));
    let engine = standby.engine();
    let promoted: bool = client.query_one("SELECT pg_promote()", &[]).expect("a row").get(0);
    assert!(promoted);
    execute(&mut client, "CREATE TABLE written AS SELECT embed('the standby is a primary now')");
    assert_eq!(standby.engine(), engine);
}

#[test]
fn a_read_only_transaction_embeds() {
    let cluster = Shared::get();
    let mut client = cluster.connect();
    let golden = golden::sentences()[0];
    let mut transaction = client.build_transaction().read_only(true).start().expect("a transaction");
    golden.assert_is(&embed(&mut transaction, &golden.text).expect("a vector"));
    let error = refused(transaction.batch_execute("CREATE TABLE written ()"));
    assert_eq!(error.code().code(), "25006", "it is a read-only transaction");
}
