-- Add events to the log; with them a turn as it is now, and its checkpoint.
--
-- KEYS: the session's; 10 the turn  11 what it has besides (any key without a turn)
--  12... other turns whose first event is perhaps among these
-- ARGV: 1 <tenant>:<session id>; owner; epoch; place of the first event (0: there are none) and of the
--   last; turn id, or ""; place before its first event, or -1; the same of the other turns; with a
--   checkpoint: agent, its format, and whether it adds to the state
--   2 the events  3 the turn's record; with a checkpoint: 4 its data
-- Answers: lost; gap; behind, end of the log; ended (the turn has, or is not known); ok, 1 if watched
local FIRST, LAST, TURN_ID, START, STARTS, AGENT, FORM, GROWS = unpack(ROW, 4)
local EVENTS, RECORD, DATA = ARGV[2], ARGV[3], ARGV[4]
local TURN, EXTRA = KEYS[10], KEYS[11]

if not it or it.owner ~= OWNER or it.epoch ~= EPOCH or it.held == 0 then
  return {'lost'}
end
local head = TURN_ID ~= '' and call('GETRANGE', TURN, 0, HEAD_END)
if head and (head == '' or ended(head)) then
  return {'ended'}
end
local problem = add_events(FIRST, LAST, EVENTS)
if problem then
  return {problem, it.end_epoch, it.end_seq}
end
place_others(12, STARTS)
if head then
  head = 'U' .. string.sub(placed(head, START), 2)
  call('SET', TURN, head .. RECORD)
end
if DATA then
  local total = (tonumber(call('HGET', SESSION, 'd')) or 0) + call('LLEN', SAID)
  states().check(EXTRA, AGENT, FORM, DATA, GROWS, total)
  it.besides = 1
end
if FIRST > 0 then
  call('PERSIST', LOG)
  log_ends(LAST)
  it.used = now_us
end
if FIRST > 0 or DATA then
  save()
end
seen(OWNER)
return {'ok', it.watched == 1 and nudges().tell_watchers() or 0}
