-- Take over a session that has unfinished turns and no live holder, or the owner itself.
--
-- KEYS: the session's
-- ARGV: 1 <tenant>:<session id>; owner; the epoch is not before this
-- Answers: nil; epoch, end of the log, ids of the unfinished turns
if not it or it.queue == '' then
  call('HDEL', WORK, NAME)
  return nil
end
local held_by = holder()
if held_by ~= '' and held_by ~= OWNER then
  return nil
end
it.epoch, it.owner, it.held = later_epoch(EPOCH), OWNER, 1
if it.end_seq == 0 then
  it.end_epoch = it.epoch
end
save()
call('HSET', WORK, NAME, OWNER)
seen(OWNER)
return {it.epoch, it.end_epoch, it.end_seq, listed()}
