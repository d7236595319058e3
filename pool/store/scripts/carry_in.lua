-- Keep a session that was carried out of another store, whole.
--
-- KEYS: the session's, and 10 ap:{p}:index:<tenant>  11 ap:{p}:tenants  12 ap:{p}:dead
--  13... its turns, in order
-- ARGV: 1 <tenant>:<session id>  2 ""  3 ""  4 tenant  5 session id  6 and 7 end of the log
--   8 <epoch>-<place> of the newest event that is gone, or ""  9 own time to live in ms, or ""
--  10 what it was made with, or ""  11 and 12 when it was made and last used, in microseconds
--  13 how many turns it has accepted  14 to 18 how many turns, keys, entries, states and batches; then
--   those: turn (its id, its record with what stands before it, 1 if it is a dead letter), key (the
--   key, digest and turn id), entry, state (agent, format, data, how many entries it has seen), batch
--   (epoch, place of its last event, events)
-- Answers: 0 (there is one of that name) or 1
local INDEX, TENANTS, DEAD = KEYS[10], KEYS[11], KEYS[12]
if call('EXISTS', SESSION) == 1 then
  return 0
end
local at = 18
local function take()
  at = at + 1
  return ARGV[at]
end

clear()
local newest = call('ZRANGE', INDEX, -1, -1, 'WITHSCORES')[2]
call('ZADD', INDEX, math.max(now_us, (tonumber(newest) or 0) + 1), ARGV[5])
call('SADD', TENANTS, ARGV[4])
-- it ends when it would have ended where it was
local ttl = math.max(1, ARGV[12] / 1000 + (tonumber(ARGV[9]) or SESSION_MS) - now)
ttl = math.floor(ttl)
local turns = tonumber(ARGV[14])
local gone = math.max(0, tonumber(ARGV[13]) - turns)
call('HSET', SESSION, 'c', ARGV[11], 'u', ARGV[12], 'r', now_text,
  'n', int(gone + turns), 'g', int(gone))
call('HSET', SESSION, 'o', '', 'e', ARGV[6], 'h', '0', 'le', ARGV[6], 'ls', ARGV[7])
if tonumber(ARGV[17]) > 0 then
  call('HSET', SESSION, 's', '1')
end
for name, value in pairs({b = ARGV[8], t = ARGV[9], i = ARGV[10]}) do
  if value ~= '' then
    call('HSET', SESSION, name, value)
  end
end

local queue = {}
for i = 1, turns do
  local id, record, dead = take(), take(), take()
  call('RPUSH', IDS, id)
  if ended(record) then
    call('SET', KEYS[12 + i], record, 'PX', ttl)
  else
    queue[#queue + 1] = id
    call('SET', KEYS[12 + i], record)
  end
  if dead == '1' then
    call('ZADD', DEAD, now_us + i, id .. ':' .. ARGV[4])
  end
end
for _ = 1, tonumber(ARGV[15]) do
  local key = take()
  call('HSET', SESSION, 'k:' .. key, take())
end
for _ = 1, tonumber(ARGV[16]) do
  call('RPUSH', SAID, take())
end
local keep = states().keep
for _ = 1, tonumber(ARGV[17]) do
  local agent, form, data, seen_ = take(), take(), take(), take()
  keep(STATES, agent, form, data, false, tonumber(seen_))
end
for _ = 1, tonumber(ARGV[18]) do
  local epoch, last, events = take(), take(), take()
  local head = struct.pack('>I8I8I4', tonumber(epoch), tonumber(last), math.floor(now / 1000))
  call('RPUSH', LOG, head .. events)
end
call('HSET', SESSION, 'q', table.concat(queue, ' '))
if #queue > 0 then
  offer()
else
  rest(ttl)
end
return 1
