//! A cluster behind the client answers as one server does: 20,000 random commands over all data
//! types run through the component on three primaries and three replicas, and directly on a plain
//! server, and every answer is compared.
//!
//! Commands with several keys have them under one hash tag or, where the client splits them,
//! anywhere. They travel in pipelines, so that the order of commands on one key is tested, too,
//! also when one of them is split. Under both protocols, with a printed seed.
//!
//! Commands that are newer than Redis 7.0 are among them where the server knows them, each with all
//! its options. `KEYSLOT_REDIS_SERVER` names another server to compare with.

use anyhow::{Context, Result, ensure};
use keyslot::{Client, Error, ReplyNode, RespVersion};
use keyslot_core::resp;
use keyslot_testcluster::{Connection, TestCluster, TestServer};
use keyslot_tests::{PROTOCOLS, options};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const COMMANDS: usize = 20_000;
const PIPELINE: usize = 100;

/// What the commands are made of: `s` to `g` are keys that mostly hold a string, list, hash, set,
/// sorted set, stream, HyperLogLog or place, `t` and `w` hashes whose fields have times and vector
/// sets; upper-case, several of one hash tag; `*` is a key of any type; `v`, `m`, `n`, `f` are a
/// value, a member, a small number, a score; `+` repeats the word before it, up to four times in
/// all.
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

/// The same for commands that not every server knows: which they are, and their templates.
const NEWER: &[(&str, &[&str])] = &[
    (
        "MSETEX",
        &[
            "MSETEX 3 s v s v s v",
            "MSETEX 2 S v s v",
            "MSETEX 2 s v s v EX 1000",
            "MSETEX 2 s v s v PX 1000000",
            "MSETEX 2 s v s v EXAT 99999999999",
            "MSETEX 2 s v s v PXAT 99999999999999",
            "MSETEX 2 s v s v KEEPTTL",
            "MSETEX 2 S v S v NX",
            "MSETEX 2 S v S v XX",
            "MSETEX 2 S v S v XX KEEPTTL",
            "MSETEX 2 S v S v EX 1000 NX",
            "MSETEX 2 s v",
            "MSETEX x s v",
            "MSETEX 1 s v NX XX",
        ],
    ),
    ("DELIFEQ", &["DELIFEQ s v", "SET s v IFEQ v", "SET s v IFEQ v GET EX 1000"]),
    (
        "HEXPIRE",
        &["HEXPIRE t 1000 FIELDS 2 m m", "HEXPIRE t 1000 NX FIELDS 1 m", "HEXPIRE t 5000 GT FIELDS 1 m"],
    ),
    ("HPEXPIRE", &["HPEXPIRE t 1000000 FIELDS 1 m", "HPEXPIRE t 1000000 LT FIELDS 1 m"]),
    ("HEXPIREAT", &["HEXPIREAT t 99999999999 FIELDS 1 m", "HEXPIREAT t 1 FIELDS 1 m"]),
    ("HPEXPIREAT", &["HPEXPIREAT t 9999999999999 XX FIELDS 1 m", "HPEXPIREAT t 1 FIELDS 2 m"]),
    ("HTTL", &["HTTL t FIELDS 2 m m", "HTTL h FIELDS 1 m"]),
    ("HPTTL", &["HPTTL t FIELDS 1 m"]),
    ("HEXPIRETIME", &["HEXPIRETIME t FIELDS 1 m"]),
    ("HPEXPIRETIME", &["HPEXPIRETIME t FIELDS 1 m"]),
    ("HPERSIST", &["HPERSIST t FIELDS 2 m m"]),
    ("HGETDEL", &["HGETDEL t FIELDS 1 m", "HGETDEL h FIELDS 2 m m", "HGETDEL s FIELDS 1 m"]),
    (
        "HGETEX",
        &[
            "HGETEX t FIELDS 2 m m",
            "HGETEX t EX 1000 FIELDS 1 m",
            "HGETEX t PX 1000000 FIELDS 1 m",
            "HGETEX t EXAT 99999999999 FIELDS 1 m",
            "HGETEX t PXAT 9999999999999 FIELDS 1 m",
            "HGETEX t PERSIST FIELDS 1 m",
        ],
    ),
    (
        "HSETEX",
        &[
            "HSETEX t FIELDS 2 m v m v",
            "HSETEX t FNX EX 1000 FIELDS 1 m v",
            "HSETEX t FXX PX 1000000 FIELDS 1 m v",
            "HSETEX t EXAT 99999999999 FIELDS 1 m v",
            "HSETEX t PXAT 9999999999999 FIELDS 1 m v",
            "HSETEX t KEEPTTL FIELDS 1 m v",
            "HSETEX t NX FIELDS 1 m v",
            "HSETEX t XX FIELDS 1 m v",
        ],
    ),
    ("SCRIPT|SHOW", &["SCRIPT SHOW 0000000000000000000000000000000000000000"]),
    ("COMMANDLOG|RESET", &["COMMANDLOG RESET slow"]),
    (
        "VADD",
        &[
            "VADD w VALUES 2 f f m",
            "VADD w VALUES 2 f f m NOQUANT SETATTR {} M 4 EF 10",
            "VADD w VALUES 2 f f m Q8 CAS",
            "VADD w REDUCE 1 VALUES 2 f f m BIN",
        ],
    ),
    ("VREM", &["VREM w m"]),
    ("VCARD", &["VCARD w"]),
    ("VDIM", &["VDIM w"]),
    ("VISMEMBER", &["VISMEMBER w m"]),
    ("VEMB", &["VEMB w m", "VEMB w m RAW"]),
    ("VINFO", &["VINFO w"]),
    ("VLINKS", &["VLINKS w m WITHSCORES"]),
    ("VRANDMEMBER", &["VRANDMEMBER w", "VRANDMEMBER w n"]),
    ("VSETATTR", &["VSETATTR w m {}"]),
    ("VGETATTR", &["VGETATTR w m"]),
    (
        "VSIM",
        &[
            "VSIM w ELE m TRUTH COUNT 3",
            "VSIM w VALUES 2 f f WITHSCORES COUNT n EF 10 NOTHREAD",
            "VSIM w VALUES 2 f f EPSILON 0.5 FILTER .a FILTER-EF 5",
        ],
    ),
];

struct Generator {
    random: StdRng,
    templates: Vec<&'static str>,
    /// So that streams have the same entries on both sides.
    entries: u64,
}

impl Generator {
    fn command(&mut self) -> Vec<String> {
        let template = self.templates[self.random.random_range(0..self.templates.len())];
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
            (Some(kind @ ('s' | 'l' | 'h' | 'e' | 'z' | 'x' | 'p' | 'g' | 't' | 'w')), None) => {
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

async fn compare(cluster: &TestCluster, protocol: RespVersion, seed: u64) -> Result<()> {
    let server = TestServer::start()?;
    let mut direct = server.connection()?;
    if protocol == RespVersion::Resp3 {
        direct.hello3()?;
    }
    let client = Client::connect(options(&cluster.urls(), protocol)).await?;
    client.execute(["FLUSHALL"]).await?;
    let newer = templates_of_newer(&mut direct)?;
    println!("{} of {} newer commands are known", newer.len(), NEWER.len());
    let templates = TEMPLATES.iter().chain(newer.iter().copied().flatten()).copied().collect();
    let mut generator = Generator { random: StdRng::seed_from_u64(seed), templates, entries: 0 };
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
                "MGET" | "MSET" | "MSETEX" | "DEL" | "EXISTS" | "UNLINK" | "TOUCH"
            ));
            ensure!(
                is_the_same(command, &ours, &theirs),
                "{}\nthe cluster: {ours:?}\n the server: {theirs:?}",
                command.join(" ")
            );
        }
    }
    // All or nothing: no one server's answer is like it.
    for condition in ["NX", "XX"] {
        let answer = client.execute(["MSETEX", "2", "s:1", "1", "s:2", "2", condition]).await;
        ensure!(matches!(answer, Err(Error::CrossSlot(_))), "{condition}: {answer:?}");
    }
    println!("{COMMANDS} commands, {split} that may be split, {errors} answered with an error");
    ensure!(errors > COMMANDS / 100 && split > COMMANDS / 20, "the commands are not worth comparing");
    Ok(())
}

/// The templates of the newer commands that this server knows.
fn templates_of_newer(server: &mut Connection) -> Result<Vec<&'static [&'static str]>> {
    let asked: Vec<_> =
        NEWER.iter().map(|(name, _)| ["COMMAND", "INFO", name].map(String::from).to_vec()).collect();
    let answers = server.pipeline(&asked)?;
    let is_known = |answer: &resp::Reply| {
        !matches!(answer.nodes.get(1), None | Some(resp::ReplyNode::Null | resp::ReplyNode::Array(0)))
    };
    Ok(NEWER
        .iter()
        .zip(&answers)
        .filter(|(_, answer)| is_known(answer))
        .map(|((_, templates), _)| *templates)
        .collect())
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
        "TTL" | "EXPIRETIME" => ours == theirs || (ours[0].len() > 3 && theirs[0].len() > 3),
        "HTTL" | "HPTTL" | "HEXPIRETIME" | "HPEXPIRETIME" => {
            let is_alike =
                |(ours, theirs): (&String, &String)| ours == theirs || (ours.len() > 3 && theirs.len() > 3);
            ours.len() == theirs.len() && ours.iter().zip(theirs).all(is_alike)
        }
        // With an argument missing it cannot be sent in parts.
        "MSET" if command.len().is_multiple_of(2) => ours[0].starts_with("CrossSlot") || ours == theirs,
        // What they hold, and how the parts of it are linked, is by chance.
        "VEMB" | "VINFO" | "VLINKS" | "VRANDMEMBER" | "VSIM" => ours[0].get(..1) == theirs[0].get(..1),
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
