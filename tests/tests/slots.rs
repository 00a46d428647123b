//! Our slots are the server's slots: 10,000 random keys, binary, with and without hash tags.

use anyhow::{Result, ensure};
use keyslot::{Client, Options};
use keyslot_core::slot::Slot;
use keyslot_testcluster::TestCluster;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

const KEYS: usize = 10_000;

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_random_keys_have_the_servers_slots() -> Result<()> {
    let cluster = TestCluster::start(1, 0)?;
    let mut server = cluster.connection(0)?;
    let mut random = SmallRng::seed_from_u64(1);
    let keys: Vec<Vec<u8>> = (0..KEYS).map(|_| key(&mut random)).collect();

    let question = |key: &Vec<u8>| vec![b"CLUSTER".to_vec(), b"KEYSLOT".to_vec(), key.clone()];
    let questions: Vec<_> = keys.iter().map(question).collect();
    let answers = server.pipeline(&questions)?;
    for (key, answer) in keys.iter().zip(answers) {
        let theirs = answer.cursor().and_then(keyslot_core::resp::ReplyRef::as_integer);
        ensure!(theirs == Some(Slot::of_key(key).number().into()), "{}: {theirs:?}", key.escape_ascii());
    }

    // The component's own function is the same code; a few keys show that it is wired to it.
    let client = Client::connect(Options::new(cluster.urls())).await?;
    for key in keys.iter().take(100) {
        ensure!(client.keyslot(key).await? == Slot::of_key(key).number(), "{}", key.escape_ascii());
    }
    Ok(())
}

/// Any bytes; in every second key braces are as likely as everything else together.
fn key(random: &mut SmallRng) -> Vec<u8> {
    let braces = random.random_bool(0.5);
    let length = random.random_range(0..40);
    (0..length)
        .map(|_| match random.random_range(0..4) {
            0 if braces => b'{',
            1 if braces => b'}',
            _ => random.random(),
        })
        .collect()
}
