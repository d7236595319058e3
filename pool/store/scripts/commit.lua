-- End a turn: its record, its last events, what it said, its agent's new state; let go of the
-- session if this was its last unfinished turn.
--
-- KEYS: the session's, and
--  10 the turn  11 what it has besides
--  12 ap:{p}:hooks  ZSET  turns whose webhook waits = when it is due, in ms
--  13 ap:{p}:dead   ZSET  <turn id>:<tenant> of dead letters = when, in microseconds
--  14... other turns whose first event is perhaps among these
-- ARGV: 1 <tenant>:<session id>  2 owner  3 epoch  4 a row:
--   place of the first event (0: there are none) and of the last; turn id; place before its first
--   event, or -1; the same of the other turns; its agent if the turn completed, else ""; state:
--   nothing, or its format, and whether it adds to the one before; whether the turn has a webhook;
--   its name as a dead letter, or ""
--   5 the events  6 the turn's record  7 the state's data  8 what it said, or ""
-- Answers: lost; gap; behind, end of the log; unknown; ended, 1 if nothing is unfinished;
--          ok, 1 if the session was let go, 1 if its upkeep is due
local FIRST, LAST, TURN_ID, START, STARTS, AGENT, STATE, HOOK, LETTER = row()
local EVENTS, RECORD, DATA, SAYS = ARGV[5], ARGV[6], ARGV[7], ARGV[8]
local TURN, EXTRA, HOOKS, DEAD = KEYS[10], KEYS[11], KEYS[12], KEYS[13]

local accepted, queue, owner, epoch, held, end_epoch, end_seq, gone, watched, has_states, besides,
  letters, ttl, upkept = fields('n', 'q', 'o', 'e', 'h', 'le', 'ls', 'g', 'w', 's', 'x', 'l', 't', 'r')
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
  local problem = add_events(FIRST, LAST, EVENTS, end_epoch, tonumber(end_seq))
  if problem then
    return {problem, end_epoch, end_seq}
  end
  last_epoch, last_seq = EPOCH, int(LAST)
  place_others(14, STARTS, end_epoch, end_seq)
end

head = 'E' .. string.sub(placed(head, START, end_epoch, end_seq), 2)
call('SET', TURN, head .. RECORD, 'PX', ttl or SESSION_MS)
local length
if SAYS ~= '' then
  length = call('RPUSH', SAID, SAYS)
  if length > ENTRIES_MAX then
    call('LPOP', SAID)
    call('HINCRBY', SESSION, 'd', 1)
  end
end
if AGENT ~= '' and (has_states or #STATE > 0) then
  local dropped = call('HGET', SESSION, 'd')
  local total = (tonumber(dropped) or 0) + (length or call('LLEN', SAID))
  if #STATE == 0 then
    states().saw(AGENT, total)
  else
    states().keep(STATES, AGENT, STATE[1], DATA, STATE[2], total)
    call('HSET', SESSION, 's', '1')
  end
end
if HOOK then
  call('ZADD', HOOKS, now, TURN_ID)
end
if LETTER ~= '' then
  call('ZADD', DEAD, now_us, LETTER)
  call('ZREMRANGEBYRANK', DEAD, 0, -DEAD_MAX - 1)
end

queue = queue == TURN_ID and '' or without(queue, TURN_ID)
local idle = queue == ''
call('HSET', SESSION, 'u', now_text, 'q', queue, 'h', idle and '0' or '1', 'le', last_epoch,
  'ls', last_seq)
if besides then
  call('DEL', EXTRA)
end
if not idle then
  call('PERSIST', LOG)
  seen(OWNER)
else
  call('HDEL', WORK, NAME)
  if letters then
    call('DEL', INBOX)
  end
  rest(ttl)
end
if watched then
  tell_watchers()
end
local kept_for_ms = (now_us - tonumber(upkept or now_us)) / 1000
local due = not upkept or kept_for_ms > math.min((ttl or SESSION_MS) / 8, UPKEEP_MS)
return {'ok', idle and 1 or 0, (due or accepted - (gone or 0) > TURNS_MAX * 9 / 8) and 1 or 0}
