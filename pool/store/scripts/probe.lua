-- Try what the scripts need, on a key and a channel of its own; nothing is left of it.
--
-- KEYS: 1 ap:{p}:probe  of any kind
-- Answers: what was refused, and how
local KEY = KEYS[1]
local refused = {}
local function try(...)
  local answer = redis.pcall(...)
  if type(answer) == 'table' and answer.err then
    refused[#refused + 1] = select(1, ...)
    refused[#refused + 1] = answer.err
  end
end
for _, words in ipairs({
  {'SET', 'U', 'PX', '1000'}, {'GET'}, {'GETRANGE', '0', '0'}, {'SETRANGE', '0', 'E'},
  {'PEXPIRE', '1000'}, {'PTTL'}, {'PERSIST'}, {'EXISTS'}, {'DEL'},
  {'RPUSH', 'a'}, {'LLEN'}, {'LPOS', 'a'}, {'LRANGE', '0', '-1'}, {'LINDEX', '0'},
  {'LTRIM', '0', '0'}, {'LPOP'}, {'UNLINK'},
  {'HSET', 'a', '1'}, {'HSETNX', 'a', '1'}, {'HGET', 'a'}, {'HMGET', 'a'}, {'HGETALL'},
  {'HINCRBY', 'a', '1'}, {'HDEL', 'a'}, {'DEL'},
  {'SADD', 'a'}, {'SMEMBERS'}, {'SRANDMEMBER', '1'}, {'SREM', 'a'}, {'DEL'},
  {'ZADD', '1', 'a'}, {'ZSCORE', 'a'}, {'ZRANGE', '0', '-1'}, {'ZREVRANGE', '0', '0'},
  {'ZRANGEBYSCORE', '0', '1'}, {'ZRANDMEMBER', '1'}, {'ZREMRANGEBYRANK', '0', '0'}, {'ZREM', 'a'},
}) do
  local name = table.remove(words, 1)
  try(name, KEY, unpack(words))
end
redis.pcall('UNLINK', KEY)
try('PUBLISH', PREFIX .. ':to:probe', '')
return refused
