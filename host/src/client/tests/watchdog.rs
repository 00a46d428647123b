//! A component that computes for too long.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_computes_for_too_long_is_given_up_and_replaced() {
    let server = Server::start().await;
    let mut options = server.options().request_timeout(Duration::from_secs(60));
    options.computing_max = Some(Duration::from_millis(50));
    let client = Client::connect(options).await.expect("the server answers");
    // It takes the component longer than that to read so many words.
    let mut words = vec![b"MSET".to_vec()];
    words.resize(4_000_001, b"1".to_vec());
    let error = client.execute(words).await.expect_err("it is ended");
    let Error::Host(message) = error else { panic!("{error:?}") };
    assert_eq!(message, "the component computed for more than 0.05 s");

    let reply = client.execute(["ECHO", "again"]).await.expect("there is another component");
    assert_eq!(reply.as_str(), Some("again"));
}
