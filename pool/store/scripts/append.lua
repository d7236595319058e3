-- Add events to the log; with them a turn as it is now, and its checkpoint.
--
-- KEYS: the session's; 10 the turn  11 what it has besides (any key without a turn)
--  12... other turns whose first event is perhaps among these
-- ARGV: 1 <tenant>:<session id>  2 owner  3 epoch  4 place of the first event (0: there are none)
--   5 of the last  6 the events  7 place before the turn's first event, or ""  8 turn id or ""
--   9 its record  10 1: with a checkpoint  11 its format  12 its data  13 1: it adds to the state
--  14 agent  15... the places before those first events
-- Answers: lost; gap; behind, end of the log; ended (the turn has, or is not known); ok, 1 if watched
local FIRST, LAST, TURN_ID = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[8]
local TURN, EXTRA = KEYS[10], KEYS[11]

local owner, epoch, held, end_epoch, end_seq, dropped, states, watched =
  fields('o', 'e', 'h', 'le', 'ls', 'd', 's', 'w')
if owner ~= OWNER or epoch ~= EPOCH or held ~= '1' then
  return {'lost'}
end
local head = TURN_ID ~= '' and call('GETRANGE', TURN, 0, HEAD_END)
if head and (head == '' or ended(head)) then
  return {'ended'}
end
if FIRST > 0 then
  local problem = add_events(FIRST, LAST, ARGV[6], end_epoch, tonumber(end_seq))
  if problem then
    return {problem, end_epoch, end_seq}
  end
  call('HSET', SESSION, 'le', EPOCH, 'ls', LAST, 'u', now_text)
  place_others(12, 15, end_epoch, end_seq)
end
if head then
  head = 'U' .. string.sub(placed(head, ARGV[7], end_epoch, end_seq), 2)
  call('SET', TURN, head .. ARGV[9])
end
if ARGV[10] == '1' then
  local agent, form, grows = ARGV[14], ARGV[11], ARGV[13] == '1'
  local total = (tonumber(dropped) or 0) + call('LLEN', SAID)
  local base = grows and states and not described(EXTRA, 'check') and described(STATES, agent)
  if base and base.form == form then
    -- the checkpoint has a copy of its own: the state stays as it is until the turn's end
    keep_state(EXTRA, 'check', form, table.concat(parts_of(STATES, agent, base)), false, total)
  end
  keep_state(EXTRA, 'check', form, ARGV[12], grows, total)
end
seen(OWNER)
return {'ok', watched and tell_watchers() or 0}
