-- Take over a session that has unfinished turns and no live holder, or the owner itself.
--
-- KEYS: the session's
-- ARGV: 1 <tenant>:<session id>  2 owner  3 the epoch is not before this
-- Answers: nil; epoch, end of the log, ids of the unfinished turns
local last_owner, epoch, held, end_epoch, end_seq, queue = fields('o', 'e', 'h', 'le', 'ls', 'q')
if not epoch or queue == '' then
  call('HDEL', WORK, NAME)
  return nil
end
local holder = holder_of(last_owner, held)
if holder ~= '' and holder ~= OWNER then
  return nil
end
epoch = later_epoch(epoch, EPOCH)
if end_seq == '0' then
  end_epoch = epoch
end
call('HSET', SESSION, 'o', OWNER, 'e', epoch, 'h', '1', 'le', end_epoch)
call('HSET', WORK, NAME, OWNER)
seen(OWNER)
return {epoch, end_epoch, end_seq, listed(queue)}
