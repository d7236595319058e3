-- Keep a session within its bounds: drop the oldest of what there is too much of, and old events, and let the
-- records of turns live as long as their session. Done now and then, not with each turn.
--
-- KEYS: the session's, and 10 ap:{p}:hooks  11 ap:{p}:tries  12 ap:{p}:dead  13... its turns, in order
-- ARGV: 1 <tenant>:<session id>; ""; 0; tenant
-- Answers: how many turns and batches were dropped; nil if it has other turns than these now
local HOOKS, TRIES, DEAD, TENANT = KEYS[10], KEYS[11], KEYS[12], ROW[4]
if not it then
  return nil
end
local ids = call('LRANGE', IDS, 0, -1)
local function turn(i)
  return KEYS[12 + i]
end
for i = 1, #ids do
  local key = turn(i)
  if not key or string.sub(key, -#ids[i]) ~= ids[i] then
    return nil
  end
end

local gone, dropped = {}, 0
while dropped < #ids - TURNS_MAX do
  local state = call('GETRANGE', turn(dropped + 1), 0, 0)
  if state ~= '' and not ended(state) then
    break
  end
  dropped = dropped + 1
  local id = call('LPOP', IDS)
  gone[id] = true
  call('UNLINK', turn(dropped))
  call('ZREM', HOOKS, id)
  call('HDEL', TRIES, id)
  call('ZREM', DEAD, id .. ':' .. TENANT)
end
if dropped > 0 then
  it.gone = it.gone + dropped
  local all = call('HGETALL', SESSION)
  for i = 1, #all, 2 do
    if string.sub(all[i], 1, 2) == 'k:' and gone[string.sub(all[i + 1], 17)] then
      call('HDEL', SESSION, all[i])
    end
  end
end

-- what lies before the events of the oldest turn that is kept belongs to no turn any more; what lies
-- before those of the oldest unfinished turn may go when it is old
local end_seq = it.end_seq
local oldest, unfinished = nil, end_seq
local ttl = call('PTTL', SESSION)
if ttl < 0 then
  ttl = it.ttl > 0 and it.ttl or SESSION_MS
end
for i = dropped + 1, #ids do
  local head = call('GETRANGE', turn(i), 0, HEAD_END)
  if head ~= '' then
    local _, start = struct.unpack('>I8I8', head, 2)
    if string.sub(head, 2, 17) == NOWHERE then
      start = end_seq
    end
    oldest = oldest or start
    if ended(head) then
      call('PEXPIRE', turn(i), ttl)
    else
      unfinished = math.min(unfinished, start)
    end
  end
end
local old = math.floor((now - EVENTS_MS) / 1000)
local batches = 0
while true do
  local batch = call('LINDEX', LOG, 0)
  if not batch then
    break
  end
  local _, last, at = header(batch)
  local orphaned = dropped > 0 and last <= (oldest or end_seq)
  if not orphaned and (at >= old or last > unfinished) then
    break
  end
  drop_batch()
  batches = batches + 1
end
local surplus = call('LLEN', SAID) - ENTRIES_MAX
if surplus > 0 then
  call('LTRIM', SAID, surplus, -1)
  call('HINCRBY', SESSION, 'd', surplus)
end
it.kept = now_us
save()
return {dropped, batches}
