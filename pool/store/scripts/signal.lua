-- Leave a signal for whoever holds the session, now or next.
--
-- KEYS: the session's, and 10 what the turn has besides
-- ARGV: 1 <tenant>:<session id>  2 ""  3 ""  4 turn id  5 the letter
--   6 the question that it decides, or ""
-- Answers: 1, or 0 if nothing was left
local TURN_ID, LETTER, QUESTION = ARGV[4], ARGV[5], ARGV[6]
local queue, owner, held, count, read = fields('q', 'o', 'h', 'l', 'lr')
if not queue or not in_queue(queue, TURN_ID) then
  return 0
end
if QUESTION ~= '' then
  if call('HSETNX', KEYS[10], 'd:' .. QUESTION, '1') == 0 then
    return 0
  end
  call('HSET', SESSION, 'x', '1')
else
  local index = call('LPOS', INBOX, LETTER, 'RANK', -1)
  if index and tonumber(count) - call('LLEN', INBOX) + index + 1 > (tonumber(read) or 0) then
    -- said before, and not read yet
    return 1
  end
end
call('RPUSH', INBOX, LETTER)
call('HINCRBY', SESSION, 'l', 1)
if held == '1' then
  tell(owner, 'inbox')
end
return 1
