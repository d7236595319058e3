-- End a turn: its record, its last events, what it said, its agent's new state; let go of the
-- session if this was its last unfinished turn.
--
-- KEYS: the session's, and
--  10 the turn  11 what it has besides
--  12 ap:{p}:hooks  ZSET  turns whose webhook waits = when it is due, in ms
--  13 ap:{p}:dead   ZSET  <turn id>:<tenant> of dead letters = when, in microseconds
--  14... other turns whose first event is perhaps among these
-- ARGV: 1 <tenant>:<session id>  2 owner  3 epoch  4 place of the first event (0: there are none)
--   5 of the last  6 the events  7 place before the turn's first event, or ""  8 turn id
--   9 its record  10 what it said, or ""  11 its agent if the turn completed, else ""
--  12 1: with a state  13 its format  14 its data  15 1: it adds to the state
--  16 1: with a webhook  17 its name as a dead letter, or ""
--  18... the places before those first events
-- Answers: lost; gap; behind, end of the log; unknown; ended, 1 if nothing is unfinished;
--          ok, 1 if the session was let go, 1 if its upkeep is due
local TURN, EXTRA, HOOKS, DEAD = KEYS[10], KEYS[11], KEYS[12], KEYS[13]
local FIRST, LAST, TURN_ID, AGENT = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[8], ARGV[11]

local owner, epoch, held, end_epoch, end_seq, dropped, queue, states, watched, ttl, upkept, made =
  fields('o', 'e', 'h', 'le', 'ls', 'd', 'q', 's', 'w', 't', 'r', 'c')
if owner ~= OWNER or epoch ~= EPOCH then
  return {'lost'}
end
local head = call('GETRANGE', TURN, 0, HEAD_END)
if head == '' then
  return {'unknown'}
elseif ended(head) then
  return {'ended', queue == '' and 1 or 0}
elseif held ~= '1' then
  return {'lost'}
end
local last_epoch, last_seq = end_epoch, end_seq
if FIRST > 0 then
  local problem = add_events(FIRST, LAST, ARGV[6], end_epoch, tonumber(end_seq))
  if problem then
    return {problem, end_epoch, end_seq}
  end
  last_epoch, last_seq = EPOCH, LAST
  place_others(14, 18, end_epoch, end_seq)
end

ttl = tonumber(ttl) or SESSION_MS
head = 'E' .. string.sub(placed(head, ARGV[7], end_epoch, end_seq), 2)
call('SET', TURN, head .. ARGV[9], 'PX', ttl)
local length
if ARGV[10] ~= '' then
  length = call('RPUSH', SAID, ARGV[10])
  if length > ENTRIES_MAX then
    call('LPOP', SAID)
    call('HINCRBY', SESSION, 'd', 1)
  end
end
local total = AGENT ~= '' and (tonumber(dropped) or 0) + (length or call('LLEN', SAID))
if AGENT ~= '' and ARGV[12] == '1' then
  keep_state(STATES, AGENT, ARGV[13], ARGV[14], ARGV[15] == '1', total)
  if not states then
    call('HSET', SESSION, 's', '1')
  end
elseif AGENT ~= '' and states then
  local about = described(STATES, AGENT)
  if about then
    about.seen = total
    call('HSET', STATES, AGENT, as_text(about))
  end
end
if ARGV[16] == '1' then
  call('ZADD', HOOKS, now, TURN_ID)
end
if ARGV[17] ~= '' then
  call('ZADD', DEAD, now_us, ARGV[17])
  call('ZREMRANGEBYRANK', DEAD, 0, -DEAD_MAX - 1)
end

queue = queue == TURN_ID and '' or without(queue, TURN_ID)
local idle = queue == ''
call('HSET', SESSION, 'u', now_text, 'le', last_epoch, 'ls', last_seq, 'q', queue,
  'h', idle and '0' or '1')
if idle then
  call('HDEL', WORK, NAME)
  call('DEL', EXTRA, INBOX)
  rest(ttl)
else
  call('DEL', EXTRA)
  seen(OWNER)
end
if watched then
  tell_watchers()
end
local due = (now_us - tonumber(upkept or made)) / 1000 > math.min(ttl / 8, UPKEEP_MS)
return {'ok', idle and 1 or 0, (due or call('LLEN', IDS) > TURNS_MAX * 9 / 8) and 1 or 0}
