-- What agents keep: functions, made when they are asked for, as most turns have no state.
local PARTS_MAX = 64

local function states()
  local function described(hash, name)
    local about = call('HGET', hash, name)
    if not about then
      return nil
    end
    local version, seen_, parts, form = string.match(about, '^(%d+) (%d+) (%d+) (.*)$')
    return {version = version, seen = tonumber(seen_), parts = tonumber(parts), form = form}
  end

  local function as_text(about)
    return about.version .. ' ' .. int(about.seen) .. ' ' .. about.parts .. ' ' .. about.form
  end

  local function names_of(name, parts)
    local names = {}
    for i = 1, parts do
      names[i] = name .. ':' .. i
    end
    return names
  end

  local function parts_of(hash, name, about)
    return call('HMGET', hash, unpack(names_of(name, about.parts)))
  end

  -- Replace a state, or add to it: what is added is a part of its own, until they are joined.
  local function keep(hash, name, form, data, grows, seen_)
    local about = described(hash, name)
    local parts = about and about.parts or 0
    local stays = about and grows and about.form == form
    if parts > 0 and (not stays or parts == PARTS_MAX) then
      if stays then
        data = table.concat(parts_of(hash, name, about)) .. data
      end
      call('HDEL', hash, unpack(names_of(name, parts)))
      parts = 0
    end
    parts = parts + 1
    local text = as_text({version = int(now_us), seen = seen_, parts = parts, form = form})
    call('HSET', hash, name, text, name .. ':' .. parts, data)
  end

  -- Keep the checkpoint of a turn. It has a copy of the state, which stays as it is until the end.
  local function check(extra, agent, form, data, grows, seen_)
    local base = grows and it.states == 1 and not described(extra, 'check') and described(STATES, agent)
    if base and base.form == form then
      keep(extra, 'check', form, table.concat(parts_of(STATES, agent, base)), false, seen_)
    end
    keep(extra, 'check', form, data, grows, seen_)
  end

  -- An agent has seen so many entries of the transcript, if it keeps a state.
  local function saw(agent, seen_)
    local about = described(STATES, agent)
    if about then
      about.seen = seen_
      call('HSET', STATES, agent, as_text(about))
    end
  end

  -- The checkpoint of a turn, else the agent's state; with the entries that it has not seen.
  local function loaded(extra, agent)
    local hash, name, about = extra, 'check', described(extra, 'check')
    if not about and it.states == 1 then
      hash, name, about = STATES, agent, described(STATES, agent)
    end
    if not about then
      return {'0', '', {}, call('LRANGE', SAID, 0, -1)}
    end
    local first = math.max(0, about.seen - (tonumber(call('HGET', SESSION, 'd')) or 0))
    return {about.version, about.form, parts_of(hash, name, about), call('LRANGE', SAID, first, -1)}
  end

  return {keep = keep, check = check, saw = saw, loaded = loaded}
end
