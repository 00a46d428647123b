//! A cluster behind the client answers as one server does: 20,000 random commands over all data types run through the
//! component on three primaries and three replicas, and directly on a plain server, and every answer is compared.
//!
//! Commands with several keys have them under one hash tag or, where the client splits them, anywhere. They travel in
//! pipelines, so that the order of commands on one key is tested, too, also when one of them is split. Under both
//! protocols, with a printed seed.

use anyhow::{Context, Result, ensure};
use keyslot::{Client, Error, Protocol, ReplyNode};
use keyslot_core::resp;
use keyslot_testcluster::{TestCluster, TestServer};
use keyslot_tests::{PROTOCOLS, options};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const COMMANDS: usize = 20_000;
const PIPELINE: usize = 100;

/// What the commands are made of: `s` to `g` are keys that mostly hold a string, list, hash, set, sorted set, stream,
/// HyperLogLog or place; upper-case, several of one hash tag; `*` is a key of any type; `v`, `m`, `n`, `f` are a value, a member,
/// a small number, a score; `+` repeats the word before it, up to four times in all.
const TEMPLATES: &[&str] = &[
    "SET s v",
    "SET s v NX",
    "SET s v XX GET",
    "GET *",
    "GETSET s v",
    "GETDEL s",
    "APPEND s v",
    "STRLEN *",
    "INCR s",
    "INCRBY s n",
    "DECR s",
    "INCRBYFLOAT s f",
    "SETRANGE s n v",
    "GETRANGE s n n",
    "SETBIT s n 1",
    "BITCOUNT s",
    "GETBIT s n",
    "BITPOS s 1",
    "GETEX s PERSIST",
    "SETNX s v",
    "PERSIST *",
    "TYPE *",
    "TTL *",
    "EXISTS *",
    "DEL *",
    "MSET s v s v s v",
    "MSET S v S v",
    "MGET s+",
    "MGET *+",
    "MGET S S *",
    "DEL *+",
    "UNLINK *+",
    "EXISTS *+",
    "TOUCH *+",
    "MSETNX S v S v",
    "LCS S S",
    "RENAME S S",
    "RENAMENX S S",
    "COPY S S REPLACE",
    "BITOP OR S S S",
    "LPUSH l v+",
    "RPUSH l v+",
    "LPOP l",
    "RPOP l n",
    "LRANGE * 0 -1",
    "LLEN *",
    "LINDEX l n",
    "LINSERT l BEFORE v v",
    "LREM l n v",
    "LSET l n v",
    "LTRIM l 0 n",
    "LPOS l v",
    "LMOVE L L LEFT RIGHT",
    "RPOPLPUSH L L",
    "LMPOP 2 L L LEFT",
    "HSET h m v m v",
    "HGET h m",
    "HMGET h m+",
    "HDEL h m+",
    "HLEN *",
    "HEXISTS h m",
    "HINCRBY h m n",
    "HSETNX h m v",
    "HSTRLEN h m",
    "HKEYS h",
    "HVALS h",
    "HGETALL h",
    "HINCRBYFLOAT h m f",
    "SADD e n+",
    "SREM e n+",
    "SCARD *",
    "SISMEMBER e n",
    "SMISMEMBER e n+",
    "SMEMBERS e",
    "SMOVE E E n",
    "SINTER E E",
    "SUNION E E",
    "SDIFF E E",
    "SINTERSTORE E E E",
    "SUNIONSTORE E E E",
    "SINTERCARD 2 E E",
    "ZADD z f m f m",
    "ZADD z INCR f m",
    "ZADD z NX f m",
    "ZREM z m+",
    "ZSCORE z m",
    "ZMSCORE z m+",
    "ZRANK z m",
    "ZREVRANK z m",
    "ZCARD *",
    "ZINCRBY z f m",
    "ZRANGE z 0 -1 WITHSCORES",
    "ZRANGEBYSCORE z -inf +inf",
    "ZCOUNT z 0 n",
    "ZPOPMIN z",
    "ZPOPMAX z n",
    "ZUNION 2 Z Z WITHSCORES",
    "ZINTERSTORE Z 2 Z Z",
    "ZDIFF 2 Z Z",
    "ZRANGESTORE Z Z 0 n",
    "ZMPOP 2 Z Z MIN",
    "ZLEXCOUNT z - +",
    "ZREMRANGEBYRANK z 0 n",
    "XADD x * m v",
    "XLEN *",
    "XRANGE x - +",
    "XDEL x 1-1",
    "XTRIM x MAXLEN n",
    "XREAD COUNT n STREAMS X X 0 0",
    "PFADD p v+",
    "PFCOUNT p",
    "PFCOUNT P P",
    "PFMERGE P P P",
    "GEOADD g f f m",
    "GEOPOS g m",
    "GEODIST g m m",
    "GEOHASH g m",
    "EVAL KEY-COUNT 2 S S v",
    "EXPIRE * 1000",
    "EXPIRETIME s",
    "PEXPIREAT s 99999999999999",
    "OBJECT ENCODING s",
    "DBSIZE",
    "KEYS *",
    "RANDOMKEY-NULL",
    "PING",
    "ECHO v",
    "NOSUCH s",
    "GET",
    "MSET s v s",
    "FLUSHALL-RARELY",
    "SCRIPT EXISTS 0000000000000000000000000000000000000000 ffffffffffffffffffffffffffffffffffffffff",
];

struct Generator {
    random: StdRng,
    /// So that streams have the same entries on both sides.
    entries: u64,
}

impl Generator {
    fn command(&mut self) -> Vec<String> {
        let template = TEMPLATES[self.random.random_range(0..TEMPLATES.len())];
        let tag = self.random.random_range(0..6);
        let mut words: Vec<String> = Vec::new();
        for (index, word) in template.split(' ').enumerate() {
            let (word, again) = match word.strip_suffix('+') {
                Some(word) if !word.is_empty() && word.len() == 1 => (word, self.random.random_range(1..5)),
                _ => (word, 1),
            };
            for _ in 0..again {
                let text = if index == 0 { word.to_owned() } else { self.word(word, tag, template) };
                words.push(text);
            }
        }
        match words[0].as_str() {
            "EVAL" => words[1] = "return {KEYS[1], redis.call('EXISTS', KEYS[2]), ARGV[1]}".to_owned(),
            "FLUSHALL-RARELY" if self.random.random_bool(0.1) => words[0] = "FLUSHALL".to_owned(),
            "FLUSHALL-RARELY" => words[0] = "PING".to_owned(),
            "RANDOMKEY-NULL" => words[0] = "RANDOMKEY".to_owned(),
            _ => {}
        }
        words
    }

    fn word(&mut self, word: &str, tag: u32, template: &str) -> String {
        let number = self.random.random_range(0..8);
        let mut chars = word.chars();
        match (chars.next(), chars.next()) {
            (Some('*'), None) if template.starts_with("XADD") => {
                self.entries += 1;
                format!("{}-1", self.entries)
            }
            (Some('*'), None) if template.starts_with("KEYS") => "*".to_owned(),
            (Some('*'), None) => {
                let kind = "slhezxpg".chars().nth(self.random.random_range(0..8)).unwrap_or('s');
                if self.random.random_bool(0.5) {
                    format!("{kind}:{number}")
                } else {
                    format!("{{{tag}}}{kind}:{number}")
                }
            }
            (Some(kind @ ('s' | 'l' | 'h' | 'e' | 'z' | 'x' | 'p' | 'g')), None) => {
                // Now and then a key of another type.
                let kind = if self.random.random_bool(0.02) { 'l' } else { kind };
                format!("{kind}:{number}")
            }
            (Some(kind @ ('S' | 'L' | 'E' | 'Z' | 'X' | 'P')), None) => {
                format!("{{{tag}}}{}:{number}", kind.to_ascii_lowercase())
            }
            (Some('v'), None) => format!("value {number}"),
            (Some('m'), None) => format!("member{number}"),
            (Some('n'), None) => number.to_string(),
            (Some('f'), None) => format!("{number}.5"),
            _ => word.to_owned(),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_answers_as_one_server_does() -> Result<()> {
    let cluster = TestCluster::start(3, 1)?;
    for protocol in PROTOCOLS {
        let seed = rand::random();
        println!("{protocol:?}: seed {seed}");
        compare(&cluster, protocol, seed).await.with_context(|| format!("{protocol:?}, seed {seed}"))?;
    }
    Ok(())
}

async fn compare(cluster: &TestCluster, protocol: Protocol, seed: u64) -> Result<()> {
    let server = TestServer::start()?;
    let mut direct = server.connection()?;
    if protocol == Protocol::Resp3 {
        direct.hello3()?;
    }
    let client = Client::connect(options(&cluster.urls(), protocol)).await?;
    client.execute(["FLUSHALL"]).await?;
    let mut generator = Generator { random: StdRng::seed_from_u64(seed), entries: 0 };
    let (mut errors, mut split) = (0, 0);
    for _ in 0..COMMANDS / PIPELINE {
        let commands: Vec<_> = (0..PIPELINE).map(|_| generator.command()).collect();
        let expected = direct.pipeline(&commands)?;
        let bytes =
            |words: &Vec<String>| words.iter().map(|word| word.clone().into_bytes()).collect::<Vec<_>>();
        let answers = client.pipeline(commands.iter().map(bytes).collect()).await;
        for ((command, expected), answer) in commands.iter().zip(&expected).zip(answers) {
            let ours = match answer {
                Ok(reply) => reply.nodes().iter().map(of_ours).collect::<Vec<_>>(),
                Err(Error::Server(error)) => {
                    vec![format!("-{} {}", error.code, error.message).trim_end().to_owned()]
                }
                Err(error) => vec![format!("{error:?}")],
            };
            let theirs: Vec<_> = expected.nodes.iter().map(of_theirs).collect();
            errors += usize::from(theirs[0].starts_with('-'));
            split += usize::from(matches!(
                command[0].as_str(),
                "MGET" | "MSET" | "DEL" | "EXISTS" | "UNLINK" | "TOUCH"
            ));
            ensure!(
                is_the_same(command, &ours, &theirs),
                "{}\nthe cluster: {ours:?}\n the server: {theirs:?}",
                command.join(" ")
            );
        }
    }
    println!("{COMMANDS} commands, {split} that may be split, {errors} answered with an error");
    ensure!(errors > COMMANDS / 100 && split > COMMANDS / 20, "the commands are not worth comparing");
    Ok(())
}

/// Whether the answers are equal, apart from what may differ between any two servers.
fn is_the_same(command: &[String], ours: &[String], theirs: &[String]) -> bool {
    let sorted = |nodes: &[String]| {
        let mut nodes = nodes.to_vec();
        nodes.sort();
        nodes
    };
    match command[0].as_str() {
        // Which key is by chance, and in which order keys and members of large sets come.
        "RANDOMKEY" => (ours == ["_"]) == (theirs == ["_"]),
        "KEYS" | "SMEMBERS" | "SINTER" | "SUNION" | "SDIFF" => sorted(ours) == sorted(theirs),
        // Passing time.
        "TTL" => ours == theirs || (ours[0].len() > 3 && theirs[0].len() > 3),
        // With an argument missing it goes to one node as it is, which looks at the slots first.
        "MSET" if command.len().is_multiple_of(2) => ours[0].starts_with("-CROSSSLOT") || ours == theirs,
        _ => ours == theirs,
    }
}

fn of_ours(node: &ReplyNode) -> String {
    match node {
        ReplyNode::Null => "_".to_owned(),
        ReplyNode::Boolean(value) => format!("#{value}"),
        ReplyNode::Integer(value) => format!(":{value}"),
        ReplyNode::Double(value) => format!(",{value}"),
        ReplyNode::BigNumber(digits) => format!("({digits}"),
        ReplyNode::SimpleString(text) | ReplyNode::Text(text) => format!("${text}"),
        ReplyNode::BulkString(bytes) => format!("${}", String::from_utf8_lossy(bytes)),
        ReplyNode::VerbatimString(verbatim) => format!("${}", String::from_utf8_lossy(&verbatim.text)),
        ReplyNode::Error(error) => format!("-{} {}", error.code, error.message),
        ReplyNode::Array(count) => format!("*{count}"),
        ReplyNode::Set(count) => format!("~{count}"),
        ReplyNode::Map(count) => format!("%{count}"),
        ReplyNode::Push(count) => format!(">{count}"),
        ReplyNode::Attribute(count) => format!("|{count}"),
    }
}

fn of_theirs(node: &resp::ReplyNode) -> String {
    match node {
        resp::ReplyNode::Null => "_".to_owned(),
        resp::ReplyNode::Boolean(value) => format!("#{value}"),
        resp::ReplyNode::Integer(value) => format!(":{value}"),
        resp::ReplyNode::Double(value) => format!(",{value}"),
        resp::ReplyNode::BigNumber(digits) => format!("({digits}"),
        resp::ReplyNode::SimpleString(text) | resp::ReplyNode::BulkString(text) => {
            format!("${}", String::from_utf8_lossy(text))
        }
        resp::ReplyNode::Verbatim { text, .. } => format!("${}", String::from_utf8_lossy(text)),
        resp::ReplyNode::Error(error) => format!("-{} {}", error.code, error.message).trim_end().to_owned(),
        resp::ReplyNode::Array(count) => format!("*{count}"),
        resp::ReplyNode::Set(count) => format!("~{count}"),
        resp::ReplyNode::Map(count) => format!("%{count}"),
        resp::ReplyNode::Push(count) => format!(">{count}"),
        resp::ReplyNode::Attribute(count) => format!("|{count}"),
    }
}
