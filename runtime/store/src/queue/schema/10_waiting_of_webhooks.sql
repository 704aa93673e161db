-- A webhook that is deleted gives up what waits for it, step by step: none of them reads others' messages.
CREATE INDEX deliveries_waiting_of_webhook ON deliveries (tenant, webhook) WHERE state = 'waiting';
