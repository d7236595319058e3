-- Name the layout of what is kept, unless it has a name.
--
-- KEYS: 1 ap:{ap:replicas}:layout  STRING the layout
-- Answers: the layout
call('SET', KEYS[1], STORE_LAYOUT, 'NX')
return call('GET', KEYS[1])
