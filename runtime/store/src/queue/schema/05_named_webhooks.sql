-- When the webhook was made that a call names, which tells it from others of its name; none if there was
-- none when the call was taken in, or if that was before this was noted.
ALTER TABLE calls ADD COLUMN webhook_created_us INTEGER;
ALTER TABLE deliveries ADD COLUMN webhook_created_us INTEGER;
