-- Offer a session whose holder, which lives, does not know of it: the server has forgotten that it
-- was let go, or the answer that gave it was lost. Its holder may claim it anew.
--
-- KEYS: the session's
-- ARGV: 1 <tenant>:<session id>; owner; 0
-- Answers: 1, or 0 if somebody else has it
if call('HGET', WORK, NAME) ~= OWNER then
  return 0
end
nudges().offer()
return 1
