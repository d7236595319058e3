-- Add events to the log; with them a turn as it is now, and its checkpoint.
--
-- KEYS: the session's; 10 the turn  11 what it has besides (any key without a turn)
--  12... other turns whose first event is perhaps among these
-- ARGV: 1 <tenant>:<session id>  2 owner  3 epoch  4 a row:
--   place of the first event (0: there are none) and of the last; turn id, or ""; place before its
--   first event, or -1; the same of the other turns; agent; checkpoint: nothing, or its format, and
--   whether it adds to the state
--   5 the events  6 the turn's record  7 the checkpoint's data
-- Answers: lost; gap; behind, end of the log; ended (the turn has, or is not known); ok, 1 if watched
local FIRST, LAST, TURN_ID, START, STARTS, AGENT, CHECK = row()
local EVENTS, RECORD, DATA = ARGV[5], ARGV[6], ARGV[7]
local TURN, EXTRA = KEYS[10], KEYS[11]

local owner, epoch, held, end_epoch, end_seq, watched = fields('o', 'e', 'h', 'le', 'ls', 'w')
if owner ~= OWNER or epoch ~= EPOCH or held ~= '1' then
  return {'lost'}
end
local head = TURN_ID ~= '' and call('GETRANGE', TURN, 0, HEAD_END)
if head and (head == '' or ended(head)) then
  return {'ended'}
end
if FIRST > 0 then
  local problem = add_events(FIRST, LAST, EVENTS, end_epoch, tonumber(end_seq))
  if problem then
    return {problem, end_epoch, end_seq}
  end
  call('PERSIST', LOG)
  call('HSET', SESSION, 'le', EPOCH, 'ls', int(LAST), 'u', now_text)
  place_others(12, STARTS, end_epoch, end_seq)
end
if head then
  head = 'U' .. string.sub(placed(head, START, end_epoch, end_seq), 2)
  call('SET', TURN, head .. RECORD)
end
if #CHECK > 0 then
  local has_states, dropped = fields('s', 'd')
  local total = (tonumber(dropped) or 0) + call('LLEN', SAID)
  states().check(EXTRA, AGENT, has_states, CHECK[1], DATA, CHECK[2], total)
  call('HSET', SESSION, 'x', '1')
end
seen(OWNER)
return {'ok', watched and tell_watchers() or 0}
