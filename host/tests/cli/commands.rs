//! The commands that are compared.

/// What may differ, by how many options there were and the line:
/// - `redis-cli` 7.0 ends with an error over big numbers and attributes; `keyslot` prints the
///   number, and the reply behind the attribute;
/// - it prints a push that comes before a reply; `keyslot` has no place for it.
///
/// Of the commands that are compared as lines of standard input, `redis-cli` also says where it was
/// redirected to. Not compared at all are doubles (RESP3) that need 17 digits where the server is a
/// Redis 7.0: newer servers send the shortest number that means the same, and that is what
/// `keyslot` prints.
pub(super) const EXCEPTIONS: &[(usize, &str)] =
    &[(1, "DEBUG PROTOCOL bignum"), (1, "DEBUG PROTOCOL attrib"), (1, "DEBUG PROTOCOL push")];

/// A walk through the data types as a tutorial has it, and through every way to be wrong.
pub(super) const TUTORIAL: &[&str] = &[
    // Strings and numbers.
    "PING",
    "PING hello",
    "ECHO \"two words\"",
    "SET greeting hello",
    "GET greeting",
    "GET nothing",
    "SET greeting again NX",
    "SET greeting again XX GET",
    "APPEND greeting \" and again\"",
    "STRLEN greeting",
    "GETRANGE greeting 0 4",
    "GETRANGE greeting -5 -1",
    "SETRANGE greeting 20 x",
    "GET greeting",
    "SET counter -1",
    "INCR counter",
    "INCRBY counter 41",
    "INCRBYFLOAT pi 3.14",
    "GETDEL counter",
    "EXISTS counter",
    "SET umlaut für",
    "GET umlaut",
    "SET quotes 'it\\s'",
    "GET quotes",
    "MSET {t}a 1 {t}b 2",
    "MGET {t}a {t}b {t}c",
    "SINTER a b",
    "LCS {t}a {t}b",
    // Keys.
    "EXPIREAT greeting 33177117420",
    "EXPIRETIME greeting",
    "PERSIST greeting",
    "TTL greeting",
    "TTL nothing",
    "TYPE greeting",
    "TYPE nothing",
    "RENAME nothing other",
    "RENAME {t}a {t}d",
    "OBJECT ENCODING pi",
    "OBJECT ENCODING nothing",
    "OBJECT HELP",
    "DEL greeting",
    "COPY {t}d {t}e",
    // Lists.
    "RPUSH list one two three",
    "LRANGE list 0 -1",
    "LRANGE nothing 0 -1",
    "LPOP list 2",
    "LPOP nothing",
    "LPOP nothing 2",
    "LPOS list three",
    "LINDEX list 7",
    "RPUSH long 1 2 3 4 5 6 7 8 9 10 11",
    "LRANGE long 0 -1",
    "LMPOP 1 long LEFT COUNT 2",
    "BLPOP long 1",
    // Hashes.
    "HSET hash name Ada born 1815",
    "HGETALL hash",
    "HGETALL nothing",
    "HMGET hash name died",
    "HINCRBYFLOAT hash born 0.5",
    "HKEYS hash",
    "HRANDFIELD nothing 2",
    "HSCAN hash 0",
    // Sets.
    "SADD set 3 1 2",
    "SMEMBERS set",
    "SISMEMBER set 1",
    "SMISMEMBER set 1 9",
    "SMEMBERS nothing",
    "SSCAN set 0",
    // Sorted sets.
    "ZADD zset -1.5 a 2 b inf c 1e30 d",
    "ZRANGE zset 0 -1 WITHSCORES",
    "ZSCORE zset a",
    "ZSCORE zset z",
    "ZMSCORE zset a z",
    "ZRANK zset b",
    "ZINCRBY zset 0.25 a",
    "ZRANGEBYSCORE zset -inf (2",
    "ZPOPMIN zset",
    "ZADD zset -1 -x",
    "ZADD zset one x",
    // Streams.
    "XADD stream 1-1 field value",
    "XADD stream 1-2 field value other thing",
    "XADD stream 1-1 field value",
    "XRANGE stream - +",
    "XLEN stream",
    "XREAD COUNT 1 STREAMS stream 0",
    "XREAD STREAMS stream 9",
    "XGROUP CREATE stream group 0",
    "XREADGROUP GROUP group me COUNT 1 STREAMS stream >",
    "XPENDING stream group",
    "XACK stream group 1-1",
    "XINFO STREAM stream",
    "XINFO GROUPS stream",
    // Bitmaps, HyperLogLog, geography.
    "SETBIT bits 7 1",
    "GETBIT bits 7",
    "BITCOUNT bits",
    "BITPOS bits 1",
    "BITFIELD bits INCRBY u2 100 1 OVERFLOW FAIL GET u4 0",
    "GET bits",
    "PFADD visitors ada bob",
    "PFCOUNT visitors",
    "GEOADD places 13.361389 38.115556 Palermo 15.087269 37.502669 Catania",
    "GEODIST places Palermo Catania km",
    "GEOPOS places Palermo nowhere",
    "GEOSEARCH places FROMLONLAT 15 37 BYRADIUS 200 km ASC WITHDIST",
    "GEOHASH places Palermo",
    // Scripts and functions.
    "EVAL \"return {1, {2, 'a', {}}, false, redis.status_reply('FINE')}\" 0",
    "EVAL \"return redis.call('SET', KEYS[1], ARGV[1])\" 1 scripted yes",
    "EVAL \"return redis.error_reply('MINE it is')\" 0",
    "EVAL \"return {redis.error_reply('MINE it is'), 1}\" 0",
    "EVAL \"return '\\0\\255\\n\\t'\" 0",
    "EVAL \"syntax(\" 0",
    "EVALSHA ffffffffffffffffffffffffffffffffffffffff 0",
    // Servers and clusters.
    "COMMAND INFO get nothing",
    "COMMAND COUNT",
    "COMMAND GETKEYS SET key value",
    "CLUSTER KEYSLOT foo",
    "CONFIG GET maxmemory",
    "LATENCY DOCTOR",
    "CLIENT NOSUCH",
    // Every way to be wrong.
    "INCR list",
    "LPUSH pi x",
    "GET",
    "SET k v SIDEWAYS",
    "EXPIRE k soon",
    "NOSUCH command at all",
    "DUMP nothing",
    "RESTORE k 0 garbage",
    // Every type that RESP2 has no word for.
    "DEBUG PROTOCOL map",
    "DEBUG PROTOCOL set",
    "DEBUG PROTOCOL double",
    "DEBUG PROTOCOL bignum",
    "DEBUG PROTOCOL verbatim",
    "DEBUG PROTOCOL true",
    "DEBUG PROTOCOL null",
    "DEBUG PROTOCOL attrib",
    "DEBUG PROTOCOL push",
];

/// The same under RESP3, where types look different.
pub(super) const RESP3: &[&str] = &[
    "SET k v",
    "GET k",
    "GET nothing",
    "HSET hash name Ada born 1815",
    "HGETALL hash",
    "HGETALL nothing",
    "SADD set 3 1 2",
    "SMEMBERS set",
    "SMEMBERS nothing",
    "ZADD zset 1.5 a 2 b inf c 1e30 d",
    "ZSCORE zset a",
    "ZSCORE zset c",
    "ZRANGE zset 0 -1 WITHSCORES",
    "ZRANGE zset 0 0",
    "ZPOPMAX zset",
    "XADD stream 1-1 field value",
    "XREAD STREAMS stream 0",
    "XINFO STREAM stream FULL",
    "XRANGE stream - +",
    "LPOP nothing",
    "LPOP nothing 2",
    "COMMAND INFO get nothing",
    "CONFIG GET maxmemory",
    "FUNCTION STATS",
    "FUNCTION LIST",
    "LATENCY DOCTOR",
    "INCR hash",
    "NOSUCH",
    "DEBUG PROTOCOL map",
    "DEBUG PROTOCOL set",
    "DEBUG PROTOCOL array",
    "DEBUG PROTOCOL double",
    "DEBUG PROTOCOL bignum",
    "DEBUG PROTOCOL verbatim",
    "DEBUG PROTOCOL true",
    "DEBUG PROTOCOL false",
    "DEBUG PROTOCOL null",
    "DEBUG PROTOCOL attrib",
    "DEBUG PROTOCOL push",
];

/// What is typed: quotes, escapes, counts, blank lines, mistakes.
pub(super) const LINES: &[u8] = b"SET k v\n\
\n   \t \nGET k\n  get   k  \nget k\r\n\
SET bin \"x\\x00y\\xff\\n\\\"q\\\"\"\nGET bin\n\
SET single 'a\\nb\\'c'\nGET single\n\
SET \"\" ''\nGET ''\n\
SET raw \xff\xfe\nGET raw\n\
GET \"unbalanced\nGET \"a\"b\nSET k a\"b c\" d\nSET k a\"b c\"\nGET k\n\
3 INCR counter\n0 PING\n-1 PING\n2x PING\n\
RPUSH list a b c\nLRANGE list 0 -1\nLRANGE nothing 0 -1\n\
HSET list a b\nNOSUCH a\nGET\n\
XADD s 1-1 a b\nXRANGE s - +\n\
QUIT\nGET k\n";
