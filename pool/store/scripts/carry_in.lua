-- Keep a session that was carried out of another store, whole.
--
-- KEYS: the session's, and 10 ap:{p}:index:<tenant>  11 ap:{p}:tenants  12 ap:{p}:dead
--  13... its turns, in order
-- ARGV: 1 <tenant>:<session id>; ""; 0; tenant; end of the log; its own time to live in ms, or 0; when it was made and last used, in microseconds; how many turns it has accepted; how many
--   turns, keys, entries, states and batches follow
--   2 what it was made with, or ""  3 <epoch>-<place> of the newest event that is gone, or ""
--   4... turns (each its id, its record with what stands before it, 1 if it is a dead letter), keys (the
--   key, digest and turn id), entries, states (agent, format, data, how many entries it has seen), batches
--   (epoch, place of its last event, events)
-- Answers: 0 (there is one of that name) or 1
local DEAD = KEYS[12]
local TENANT, END_EPOCH, END_SEQ, TTL, MADE, USED, ACCEPTED, TURNS, USED_KEYS, ENTRIES, KEPT_STATES,
  BATCHES = unpack(ROW, 4)
if it then
  return 0
end
local at = 3
local function take()
  at = at + 1
  return ARGV[at]
end

make()
it = nothing()
it.gone = math.max(0, ACCEPTED - TURNS)
it.accepted = it.gone + TURNS
it.epoch, it.end_epoch, it.end_seq = END_EPOCH, END_EPOCH, END_SEQ
it.used, it.states = USED, KEPT_STATES > 0 and 1 or 0
call('HSET', SESSION, 'c', int(MADE))
for name, value in pairs({i = ARGV[2], b = ARGV[3]}) do
  if value ~= '' then
    call('HSET', SESSION, name, value)
  end
end

-- it ends when it would have ended where it was
local ttl = math.floor(math.max(1, USED / 1000 + (TTL > 0 and TTL or SESSION_MS) - now))
local queue = {}
for i = 1, TURNS do
  local id, record, dead = take(), take(), take()
  call('RPUSH', IDS, id)
  if ended(record) then
    call('SET', KEYS[12 + i], record, 'PX', int(ttl))
  else
    queue[#queue + 1] = id
    call('SET', KEYS[12 + i], record)
  end
  if dead == '1' then
    call('ZADD', DEAD, now_us + i, id .. ':' .. TENANT)
  end
end
for _ = 1, USED_KEYS do
  local key = take()
  call('HSET', SESSION, 'k:' .. key, take())
end
for _ = 1, ENTRIES do
  call('RPUSH', SAID, take())
end
local keep = states().keep
for _ = 1, KEPT_STATES do
  local agent, form, data, seen_ = take(), take(), take(), take()
  keep(STATES, agent, form, data, false, tonumber(seen_))
end
for _ = 1, BATCHES do
  local epoch, last, events = take(), take(), take()
  local head = struct.pack('>I8I8I4', tonumber(epoch), tonumber(last), now / 1000)
  call('RPUSH', LOG, head .. events)
end
it.queue = table.concat(queue, ' ')
if it.queue ~= '' then
  nudges().offer()
else
  -- what it has left, and from its next turn on what is its own
  it.ttl = ttl
  rest()
end
it.ttl = TTL
save()
return 1
