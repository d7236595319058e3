-- End a turn: its record, its last events, what it said, its agent's new state; let go of the
-- session if this was its last unfinished turn.
--
-- KEYS: the session's, and
--  10 the turn  11 what it has besides
--  12... other turns whose first event is perhaps among these; then, where they are needed,
--     ap:{p}:hooks  ZSET  turns whose webhook waits = when it is due, in ms
--     ap:{p}:dead   ZSET  <turn id>:<tenant> of dead letters = when, in microseconds
-- ARGV: 1 <tenant>:<session id>; owner; epoch; place of the first event (0: there are none) and of the
--   last; turn id; place before its first event, or -1; the same of the other turns; its agent if the
--   turn completed, else ""; if there is any of it: whether the turn has a webhook; its name as a dead
--   letter, or ""; its state's format, or ""; whether that adds to the one before
--   2 the events  3 the turn's record  4 what it said, or ""  5 the state's data
-- Answers: lost; gap; behind, end of the log; unknown; ended, 1 if nothing is unfinished;
--          ok, 1 if the session was let go, 1 if its upkeep is due
local FIRST, LAST, TURN_ID, START, STARTS, AGENT, HOOK, LETTER, FORM, GROWS = unpack(ROW, 4)
local EVENTS, RECORD, SAYS, DATA = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local TURN, EXTRA = KEYS[10], KEYS[11]

if not it or it.owner ~= OWNER or it.epoch ~= EPOCH then
  return {'lost'}
end
local head = call('GETRANGE', TURN, 0, HEAD_END)
if head == '' then
  return {'unknown'}
elseif ended(head) then
  return {'ended', it.queue == '' and 1 or 0}
elseif it.held == 0 then
  return {'lost'}
end
local problem = add_events(FIRST, LAST, EVENTS)
if problem then
  return {problem, it.end_epoch, it.end_seq}
end
place_others(12, STARTS)
head = 'E' .. string.sub(placed(head, START), 2)
call('SET', TURN, head .. RECORD, 'PX', it.ttl > 0 and int(it.ttl) or SESSION_TTL)
log_ends(LAST)

local length
if SAYS ~= '' then
  length = call('RPUSH', SAID, SAYS)
  if length > ENTRIES_MAX then
    call('LPOP', SAID)
    call('HINCRBY', SESSION, 'd', 1)
  end
end
if AGENT ~= '' and (it.states == 1 or DATA) then
  local total = (tonumber(call('HGET', SESSION, 'd')) or 0) + (length or call('LLEN', SAID))
  if DATA then
    states().keep(STATES, AGENT, FORM, DATA, GROWS, total)
    it.states = 1
  else
    states().saw(AGENT, total)
  end
end
local last_key = #KEYS
if LETTER and LETTER ~= '' then
  call('ZADD', KEYS[last_key], now_us, LETTER)
  call('ZREMRANGEBYRANK', KEYS[last_key], 0, -DEAD_MAX - 1)
  last_key = last_key - 1
end
if HOOK then
  call('ZADD', KEYS[last_key], now, TURN_ID)
end

if it.queue == TURN_ID then
  it.queue, it.held = '', 0
else
  local left = {}
  for id in string.gmatch(it.queue, '%S+') do
    left[#left + 1] = id ~= TURN_ID and id or nil
  end
  it.queue = table.concat(left, ' ')
  it.held = it.queue == '' and 0 or 1
end
it.used = now_us
save()
if it.besides == 1 then
  call('DEL', EXTRA)
end
if it.held == 1 then
  call('PERSIST', LOG)
  seen(OWNER)
else
  call('HDEL', WORK, NAME)
  if it.letters > 0 then
    call('DEL', INBOX)
  end
  rest()
end
if it.watched == 1 then
  nudges().tell_watchers()
end
local ttl = it.ttl > 0 and it.ttl or SESSION_MS
local due = (now_us - it.kept) / 1000 > math.min(ttl / 8, UPKEEP_MS)
  or it.accepted - it.gone > TURNS_MAX * 9 / 8
return {'ok', 1 - it.held, due and 1 or 0}
