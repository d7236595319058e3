-- What scripts that let go of a session have behind session.lua.

-- What expires when it is idle stays: the session from its next turn on, the log from that one's
-- first event on.
local function rest()
  local of_session, of_log = SESSION_TTL, LOG_TTL
  if it.ttl > 0 then
    of_session, of_log = int(it.ttl), int(math.min(it.ttl, EVENTS_MS))
  end
  call('PEXPIRE', SESSION, of_session)
  call('PEXPIRE', LOG, of_log)
end
